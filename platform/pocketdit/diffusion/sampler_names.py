"""Names of the samplers and noise generators. This file does not import torch, so configurations are validated fast.

To add a sampler, write a function of type ``Sampler`` in ``samplers.py`` and add its name here.
"""

from typing import Literal

SamplerName = Literal["euler", "heun", "dpmpp_2m"]

NoiseName = Literal["torch", "portable"]
"""``torch`` draws noise that depends on the prompt and the seed. ``portable`` draws noise that depends only on the seed
and that apps can reproduce (see ``portable_noise.py``)."""
