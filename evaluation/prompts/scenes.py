"""Prompt sets for rendered scenes, in the formats of the published benchmarks and as plain held-out captions."""

from evaluation.contract import Prompt, PromptSet
from evaluation.prompts.limits import limit_prompts


class SceneGenEval:
    """Held-out captions of rendered scenes, with GenEval's six tags.

    Args:
        count: Number of prompts.
        seed: Seed of the prompts.
        images_each: Images per prompt.
    """

    def __init__(self, count: int, seed: int = 0, images_each: int = 1) -> None:
        self.count, self.seed, self.images_each = count, seed, images_each

    def load(self) -> PromptSet:
        """Generate the prompt set (see ``scene_geneval``)."""
        from evaluation.scenes.prompts.benchmarks import scene_geneval

        return limit_prompts(scene_geneval(self.count, self.seed), images_each=self.images_each)


class SceneDPG:
    """Long captions of held-out rendered scenes, with questions derived from the scenes' annotations.

    Args:
        count: Number of prompts.
        seed: Seed of the scenes.
        images_each: Images per prompt.
    """

    def __init__(self, count: int, seed: int = 0, images_each: int = 1) -> None:
        self.count, self.seed, self.images_each = count, seed, images_each

    def load(self) -> PromptSet:
        """Generate the prompt set (see ``scene_dpg``)."""
        from evaluation.scenes.prompts.benchmarks import scene_dpg

        return limit_prompts(scene_dpg(self.count, self.seed), images_each=self.images_each)


class SceneCompBench:
    """Held-out captions of rendered scenes for a category of T2I-CompBench.

    Args:
        category: The category.
        count: Number of prompts.
        seed: Seed of the prompts.
        images_each: Images per prompt.
    """

    def __init__(self, category: str, count: int, seed: int = 0, images_each: int = 1) -> None:
        self.category, self.count, self.seed, self.images_each = category, count, seed, images_each

    def load(self) -> PromptSet:
        """Generate the prompt set (see ``scene_compbench``)."""
        from evaluation.scenes.prompts.benchmarks import scene_compbench

        return limit_prompts(scene_compbench(self.category, self.count, self.seed), images_each=self.images_each)


class HeldOutCaptions:
    """Held-out short captions of rendered scenes in four groups.

    The groups are one object, two objects, two objects in a relation, and several objects of one kind.

    Args:
        count: Number of prompts.
        seed: Seed of the prompts.
        images_each: Images per prompt.
    """

    def __init__(self, count: int, seed: int = 0, images_each: int = 1) -> None:
        self.count, self.seed, self.images_each = count, seed, images_each

    def load(self) -> PromptSet:
        """Generate the prompt set (see ``held_out_prompts``)."""
        from evaluation.scenes.prompts.held_out import held_out_prompts

        expectations = held_out_prompts(self.count, self.seed)
        prompts = tuple(Prompt(f"{i:05d}", item["prompt"], item) for i, item in enumerate(expectations))
        return limit_prompts(PromptSet("scene-captions", prompts), images_each=self.images_each)
