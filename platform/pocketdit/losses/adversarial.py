"""Hinge losses for adversarial training (Lim and Ye 2017), on discriminator scores of any shape."""

from torch import Tensor
from torch.nn import functional


def decoder_adversarial_loss(fake: Tensor) -> Tensor:
    """Compute the decoder's loss: minus the mean score of its images. Scalar."""
    return -fake.float().mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Compute the discriminator's loss: real images should score above 1, decoded images below -1. Scalar."""
    return functional.relu(1 - real.float()).mean() + functional.relu(1 + fake.float()).mean()
