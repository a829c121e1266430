"""Accuracy on captions of rendered scenes: the share of images that show what the caption describes."""

from collections import defaultdict

from evaluation.contract import Backend, ImageSet, Result, Score, open_image, result_name
from evaluation.scenes.judges.judge import judge_image
from pocketdit.errors import UserError

BENCHMARK = "scene-accuracy"
JUDGE = Backend("scene-rules", "1")


class SceneAccuracy:
    """Share of correct images over all prompts ("overall") and for each group of captions.

    The rules of the judge work only for this project's rendered scenes, so the values are not GenEval scores.

    Args:
        prompts: Key of a ``HeldOutCaptions`` prompt set in the evaluation.
    """

    def __init__(self, prompts: str) -> None:
        self.prompts = prompts

    def score(self, images: ImageSet) -> Result:
        """Return "overall" and a ``Score`` per group. A prompt's value is the share of its images that are correct.

        Raises:
            UserError: A prompt has no images or does not come from ``HeldOutCaptions``.
        """
        groups: dict[str, dict[str, float]] = defaultdict(dict)
        counts: dict[str, int] = defaultdict(int)
        for prompt in images.prompts.prompts:
            paths = images.images.get(prompt.id, ())
            if not paths:
                raise UserError(f"prompt {prompt.id} ({prompt.text!r}) has no images; run the evaluation again")
            if "tag" not in prompt.metadata or "include" not in prompt.metadata:
                raise UserError(f"prompt {prompt.id}: {self.prompts} is not a HeldOutCaptions prompt set")
            verdicts = [judge_image(open_image(path), dict(prompt.metadata)).correct for path in paths]
            groups[prompt.metadata["tag"]][prompt.id] = sum(verdicts) / len(verdicts)
            counts[prompt.metadata["tag"]] += len(verdicts)
        scores = {tag: _mean(by_prompt, counts[tag]) for tag, by_prompt in groups.items()}
        everything = {name: value for by_prompt in groups.values() for name, value in by_prompt.items()}
        protocol = {
            "prompts": images.prompts.name,
            "prompt_count": len(everything),
            "images_each": images.prompts.images_each,
            "judge": {"name": JUDGE.name, "version": JUDGE.version},
            "overall": "share of correct images over all prompts",
        }
        overall = _mean(everything, sum(counts.values()))
        return Result(result_name(BENCHMARK, JUDGE), {"overall": overall, **scores}, protocol)


def _mean(by_prompt: dict[str, float], samples: int) -> Score:
    return Score(sum(by_prompt.values()) / len(by_prompt), samples, by_prompt)
