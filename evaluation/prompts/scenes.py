"""Prompt sets of drawn scenes, in the forms of the published benchmarks."""

from evaluation.contract import PromptSet
from evaluation.prompts.limits import limited


class SceneGenEval:
    """Held-out captions of drawn scenes in GenEval's six tags."""

    def __init__(self, count: int, seed: int = 0, images_each: int = 1) -> None:
        self.count, self.seed, self.images_each = count, seed, images_each

    def load(self) -> PromptSet:
        from evaluation.scenes.prompts.benchmarks import scene_geneval

        return limited(scene_geneval(self.count, self.seed), None, self.images_each)


class SceneDPG:
    """Long captions of held-out drawn scenes, with questions from their annotations."""

    def __init__(self, count: int, seed: int = 0, images_each: int = 1) -> None:
        self.count, self.seed, self.images_each = count, seed, images_each

    def load(self) -> PromptSet:
        from evaluation.scenes.prompts.benchmarks import scene_dpg

        return limited(scene_dpg(self.count, self.seed), None, self.images_each)


class SceneCompBench:
    """Drawn scenes' prompts of a category of T2I-CompBench."""

    def __init__(self, category: str, count: int, seed: int = 0, images_each: int = 1) -> None:
        self.category, self.count, self.seed, self.images_each = category, count, seed, images_each

    def load(self) -> PromptSet:
        from evaluation.scenes.prompts.benchmarks import scene_compbench

        return limited(scene_compbench(self.category, self.count, self.seed), None, self.images_each)
