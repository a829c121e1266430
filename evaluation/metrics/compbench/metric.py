"""T2I-CompBench (Huang et al. 2023, arXiv 2307.06350, version 3 from 2025): category scores and the overall score."""

from collections.abc import Sequence
from dataclasses import asdict
from operator import itemgetter
from statistics import fmean

from evaluation.contract import Backend, ImageSet, Prompt, PromptSet, Result, Score, open_image, result_name
from evaluation.metrics.compbench.categories import BENCHMARK, CATEGORIES, COLUMNS, Category, prompt_set_name
from evaluation.metrics.compbench.scorer import Scorer
from pocketdit.errors import ConfigError, UserError

_PUBLISHED_SCORERS: dict[str, str] = {
    "color": "BlipVqa",
    "shape": "BlipVqa",
    "texture": "BlipVqa",
    "spatial": "Spatial",
    "non_spatial": "ClipSimilarity",
    "complex": "ThreeInOne",
    "numeracy": "Numeracy",
}


class CompBench:
    """One category of T2I-CompBench.

    Args:
        prompts: Key of the category's prompt set in the evaluation.
        category: The category.
        scorer: ``BlipVqa`` for color, shape and texture, ``Spatial`` for spatial, ``Numeracy`` for numeracy,
            ``ClipSimilarity`` for non_spatial, and ``ThreeInOne`` for complex.

    Raises:
        ConfigError: The category is unknown, or the scorer does not score it.
    """

    def __init__(self, prompts: str, category: Category, scorer: Scorer) -> None:
        if category not in CATEGORIES:
            raise ConfigError(f"category must be one of {', '.join(CATEGORIES)}, not {category!r}")
        if category not in scorer.categories:
            raise ConfigError(
                f"category {category}: {type(scorer).__name__} does not score it; use {_PUBLISHED_SCORERS[category]}"
            )
        self.prompts = prompts
        self.category = category
        self.scorer = scorer

    def check_prompts(self, prompts: PromptSet) -> None:
        """Check that the prompt set belongs to the category.

        Raises:
            ConfigError: The prompt set is empty, or a prompt belongs to another category.
        """
        if not prompts.prompts:
            raise ConfigError(
                f"prompt set {prompts.name} has no prompts; use the prompt set {prompt_set_name(self.category)}"
            )
        for prompt in prompts.prompts:
            if prompt.metadata.get("category") != self.category:
                raise ConfigError(
                    f"prompt {prompt.id} is not a {self.category} prompt of T2I-CompBench; use a prompt set of this "
                    "category"
                )

    def score(self, images: ImageSet) -> Result:
        """Return the category's score: the mean over prompts of the mean over each prompt's images.

        Raises:
            UserError: The prompt set is empty, a prompt has no images or belongs to another category, or an image
                cannot be decoded.
        """
        self.check_prompts(images.prompts)
        by_prompt = {prompt.id: self._score_prompt(images, prompt) for prompt in images.prompts.prompts}
        counts = [len(images.images[name]) for name in by_prompt]
        score = Score(fmean(by_prompt.values()), sum(counts), by_prompt)
        limits = self.scorer.limits(images.prompts.prompts)
        best = fmean(limits.best)
        notes = [*limits.notes]
        if round(best, 3) < 1:
            notes.append(f"Images that show exactly what the prompts ask for score at most {best:.3f}.")
        protocol = {
            "prompt_set": images.prompts.name,
            "category": self.category,
            "prompts": len(by_prompt),
            "images_each": {"least": min(counts), "most": max(counts)},
            "images_each_published": images.prompts.images_each,
            "backends": [asdict(backend) for backend in self.scorer.backends],
            **self.scorer.protocol,
            "limits": {"best_score": best, **limits.protocol},
        }
        name = result_name(BENCHMARK, *self.scorer.backends)
        return Result(name, {self.category: score}, protocol, notes=tuple(notes))

    def _score_prompt(self, images: ImageSet, prompt: Prompt) -> float:
        paths = images.images.get(prompt.id, ())
        if not paths:
            raise UserError(f"prompt {prompt.id} has no images; run the evaluation again")
        return fmean(self.scorer.score([open_image(path) for path in paths], prompt))


def overall(results: Sequence[Result]) -> Result:
    """Combine the six columns of Table 4 in the SnapGen++ paper. "overall" is their mean.

    "overall" has per-prompt values only if all columns have the same number of prompts. Otherwise, the mean of these
    values would differ from "overall".

    Raises:
        UserError: There is not exactly one result per column.
    """
    categories = [str(result.protocol.get("category")) for result in results]
    if sorted(categories) != sorted(COLUMNS):
        raise UserError(
            f"the overall score needs one result per column ({', '.join(COLUMNS)}), not "
            f"{', '.join(categories) or 'none'}"
        )
    columns = sorted(zip(categories, results, strict=True), key=itemgetter(0))
    scores = {name: result.scores[name] for name, result in columns}
    prompts = {len(score.by_prompt) for score in scores.values()}
    by_prompt = {k: v for s in scores.values() for k, v in s.by_prompt.items()} if len(prompts) == 1 else {}
    mean = Score(fmean(s.value for s in scores.values()), sum(s.samples for s in scores.values()), by_prompt)
    backends = dict.fromkeys(
        Backend(b["name"], b["version"], tuple(b["published_for"])) for r in results for b in r.protocol["backends"]
    )
    protocol = {"columns": {name: result.protocol for name, result in zip(categories, results, strict=True)}}
    notes = tuple(f"{name}: {note}" for name, result in columns for note in result.notes)
    return Result(result_name(BENCHMARK, *backends), {"overall": mean, **scores}, protocol, notes=notes)
