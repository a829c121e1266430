"""Captions of held-out compositions of pictograms."""

from evaluation.contract import Prompt, PromptSet
from evaluation.prompts.limits import limit_prompts


class HeldOutCompositions:
    """Short captions of compositions whose content never occurs in training (see ``datamodules.pictograms``).

    The captions are divided equally among three groups: one pictogram, several pictograms of one kind, and two kinds in
    a relation.

    Args:
        count: Number of prompts.
        size: Side of the images in pixels.
        seed: Seed of the compositions.
        images_each: Images per prompt.
    """

    def __init__(self, count: int, size: int = 128, seed: int = 0, images_each: int = 1) -> None:
        self.count, self.size, self.seed, self.images_each = count, size, seed, images_each

    def load(self) -> PromptSet:
        """Generate the prompt set.

        Raises:
            UserError: The extra ``emoji`` is not installed.
        """
        from evaluation.pictograms.prompts import held_out_prompts

        expectations = held_out_prompts(self.count, self.seed, self.size)
        prompts = tuple(Prompt(f"{i:05d}", item["prompt"], item) for i, item in enumerate(expectations))
        return limit_prompts(PromptSet("pictogram-captions", prompts), images_each=self.images_each)
