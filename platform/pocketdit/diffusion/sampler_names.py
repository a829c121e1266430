"""Names of the samplers. They are separate from the functions so that a configuration is checked without torch.

To add a sampler, write a function of type ``Sampler`` in ``samplers.py`` and add the function's name here.
"""

from typing import Literal

SamplerName = Literal["euler", "heun", "dpmpp_2m"]
