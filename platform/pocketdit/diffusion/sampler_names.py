"""The names of the samplers, apart from their functions so that a configuration is checked without torch.

To add a sampler, write its function in ``samplers.py`` and add the function's name here.
"""

from typing import Literal

SamplerName = Literal["euler", "heun", "dpmpp_2m"]
