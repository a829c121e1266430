"""Hinge losses for adversarial training (Lim and Ye 2017), for discriminator scores of any shape."""

from torch import Tensor
from torch.nn import functional


def decoder_adversarial_loss(fake: Tensor) -> Tensor:
    """Compute the decoder's scalar loss, the negative mean score of its images."""
    return -fake.float().mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Compute the discriminator's scalar loss. Real images should score above 1 and decoded images below -1."""
    return functional.relu(1 - real.float()).mean() + functional.relu(1 + fake.float()).mean()
