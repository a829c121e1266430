"""The share of images that show what their captions describe, for captions that rules can judge."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from evaluation.contract import Backend, ImageArray, ImageSet, Result, Score, open_image, result_name
from pocketdit.errors import UserError


def caption_accuracy(
    benchmark: str, judge: Backend, images: ImageSet, is_correct: Callable[[ImageArray, Mapping[str, Any]], bool]
) -> Result:
    """Compute the share of correct images over all prompts ("overall") and for each group of captions.

    A prompt's value is the share of its images that are correct.

    Args:
        benchmark: Name of the benchmark.
        judge: Identity of the judge.
        images: Images of prompts whose metadata is in GenEval's format.
        is_correct: Returns whether an image (H, W, 3) shows what the metadata of its prompt describes.

    Raises:
        UserError: A prompt has no images, or its metadata is not in GenEval's format.
    """
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    counts: dict[str, int] = defaultdict(int)
    for prompt in images.prompts.prompts:
        paths = images.images.get(prompt.id, ())
        if not paths:
            raise UserError(f"prompt {prompt.id} ({prompt.text!r}) has no images; run the evaluation again")
        if "tag" not in prompt.metadata or "include" not in prompt.metadata:
            raise UserError(
                f"prompt set {images.prompts.name}: the metadata of prompt {prompt.id} has no tag or no objects"
            )
        verdicts = [is_correct(open_image(path), prompt.metadata) for path in paths]
        groups[prompt.metadata["tag"]][prompt.id] = sum(verdicts) / len(verdicts)
        counts[prompt.metadata["tag"]] += len(verdicts)
    scores = {tag: _mean(by_prompt, counts[tag]) for tag, by_prompt in groups.items()}
    everything = {name: value for by_prompt in groups.values() for name, value in by_prompt.items()}
    protocol = {
        "prompts": images.prompts.name,
        "prompt_count": len(everything),
        "images_each": images.prompts.images_each,
        "judge": {"name": judge.name, "version": judge.version},
        "overall": "share of correct images over all prompts",
    }
    overall = _mean(everything, sum(counts.values()))
    return Result(result_name(benchmark, judge), {"overall": overall, **scores}, protocol)


def _mean(by_prompt: dict[str, float], samples: int) -> Score:
    return Score(sum(by_prompt.values()) / len(by_prompt), samples, by_prompt)
