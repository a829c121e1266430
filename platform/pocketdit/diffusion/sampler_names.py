"""Names of the samplers, kept apart from the functions so that a configuration can be validated without torch.

To add a sampler, write a function of type ``Sampler`` in ``samplers.py`` and add its name here.
"""

from typing import Literal

SamplerName = Literal["euler", "heun", "dpmpp_2m"]
