"""T2I-CompBench's score for complex prompts (Huang et al. 2023, arXiv 2307.06350, Sec. 4)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from evaluation.contract import ImageArray, Prompt
from evaluation.metrics.compbench.scorer import Limits, Scorer
from pocketdit.errors import ConfigError, UserError

Part = Literal["attribute", "spatial", "similarity"]

# The scores to average for each kind of prompt. Each kind has its own published list of prompts.
PARTS: Mapping[str, tuple[Part, ...]] = {
    "spatial": ("spatial", "attribute"),
    "action": ("similarity", "attribute"),
    "spatialaction": ("attribute", "spatial", "similarity"),
}

_CATEGORY: Mapping[Part, str] = {"attribute": "color", "spatial": "spatial", "similarity": "non_spatial"}


class ThreeInOne:
    """Mean of the attribute (A), spatial (S) and similarity (C) scores that apply to the prompt.

    The score is (S + A) / 2 for spatial prompts, (C + A) / 2 for action prompts, and (A + S + C) / 3 for prompts that
    are both.

    Args:
        attribute: Scorer of the category "color".
        spatial: Scorer of the category "spatial".
        similarity: Scorer of the category "non_spatial".

    Raises:
        ConfigError: A scorer does not support its category.
    """

    categories: tuple[str, ...] = ("complex",)

    def __init__(self, attribute: Scorer, spatial: Scorer, similarity: Scorer) -> None:
        self.scorers: Mapping[Part, Scorer] = {"attribute": attribute, "spatial": spatial, "similarity": similarity}
        for part, scorer in self.scorers.items():
            if _CATEGORY[part] not in scorer.categories:
                raise ConfigError(
                    f"{part}: {type(scorer).__name__} does not score the category {_CATEGORY[part]}; use another scorer"
                )
        self.backends = tuple(dict.fromkeys(b for scorer in self.scorers.values() for b in scorer.backends))
        self.protocol: Mapping[str, Any] = {
            "scorer": "three_in_one",
            "parts": {kind: list(parts) for kind, parts in PARTS.items()},
            **{part: dict(scorer.protocol) for part, scorer in self.scorers.items()},
        }

    def score(self, images: Sequence[ImageArray], prompt: Prompt) -> list[float]:
        """Return, for each image, the mean of the scores that apply to the prompt.

        Raises:
            UserError: The prompt's metadata has no valid "kind".
        """
        rows = [self.scorers[part].score(images, prompt) for part in _parts(prompt)]
        return [sum(scores) / len(scores) for scores in zip(*rows, strict=True)]

    def limits(self, prompts: Sequence[Prompt]) -> Limits:
        """Return the limitations of each of the three scorers, for the prompts to which its score applies."""
        best: dict[str, list[float]] = {prompt.id: [] for prompt in prompts}
        protocol: dict[str, Any] = {}
        notes: list[str] = []
        for part, scorer in self.scorers.items():
            scored = [prompt for prompt in prompts if part in _parts(prompt)]
            limits = scorer.limits(scored)
            for prompt, value in zip(scored, limits.best, strict=True):
                best[prompt.id].append(value)
            protocol[part] = dict(limits.protocol)
            notes += limits.notes
        return Limits(tuple(sum(values) / len(values) for values in best.values()), protocol, tuple(notes))


def _parts(prompt: Prompt) -> tuple[Part, ...]:
    """Return the scores to average for a prompt."""
    kind = str(prompt.metadata.get("kind"))
    if kind not in PARTS:
        raise UserError(
            f"prompt {prompt.id}: kind must be one of {', '.join(PARTS)}, not {kind!r}; use a CompBenchPrompts prompt "
            "set"
        )
    return PARTS[kind]
