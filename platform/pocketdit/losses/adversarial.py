"""The hinge form of an adversarial loss (Lim and Ye 2017), on a discriminator's scores of any shape."""

from torch import Tensor
from torch.nn import functional


def decoder_adversarial_loss(fake: Tensor) -> Tensor:
    """What the decoder minimises: minus the mean score of its pictures. Scalar."""
    return -fake.float().mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimises: real pictures belong above 1, the decoder's below -1. Scalar."""
    return functional.relu(1 - real.float()).mean() + functional.relu(1 + fake.float()).mean()
