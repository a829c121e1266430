"""T2I-CompBench (Huang et al. 2023, arXiv 2307.06350; 2025, v3) as a metric: one category each, and the overall."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean

from evaluation.contract import Backend, ImageSet, Prompt, Result, Score, open_image, result_name
from evaluation.metrics.compbench.categories import BENCHMARK, CATEGORIES, COLUMNS, Category, prompt_set_name
from evaluation.metrics.compbench.scorer import Scorer
from pocketdit.errors import ConfigError, UserError


class CompBench:
    """One category of T2I-CompBench.

    ``prompts``: name of the prompt set in the evaluation. ``scorer``: ``BlipVqa`` for color, shape and texture,
    ``Spatial``, ``Numeracy``, ``ClipSimilarity`` for non_spatial, ``ThreeInOne`` for complex prompts.
    """

    def __init__(self, prompts: str, category: Category, scorer: Scorer) -> None:
        if category not in CATEGORIES:
            raise ConfigError(f"category {category!r}: T2I-CompBench has {', '.join(CATEGORIES)}")
        if category not in scorer.categories:
            raise ConfigError(
                f"category {category}: {type(scorer).__name__} does not score it; take {_SCORERS[category]}"
            )
        self.prompts = prompts
        self.category = category
        self.scorer = scorer

    def score(self, images: ImageSet) -> Result:
        """The category's score: a prompt's is the mean of its pictures, the category's the mean of its prompts.

        Raises:
            UserError: a prompt is of another category or has no picture, or a picture does not open.
        """
        if not images.prompts.prompts:
            raise UserError(
                f"{images.prompts.name}: has no prompts; use a prompt set of {prompt_set_name(self.category)}"
            )
        by_prompt = {prompt.id: self._prompt(images, prompt) for prompt in images.prompts.prompts}
        pictures = [len(images.images[name]) for name in by_prompt]
        score = Score(fmean(by_prompt.values()), sum(pictures), by_prompt)
        protocol = {
            "prompt_set": images.prompts.name,
            "category": self.category,
            "prompts": len(by_prompt),
            "images_each": {"least": min(pictures), "most": max(pictures)},
            "images_each_published": images.prompts.images_each,
            "backends": [asdict(backend) for backend in self.scorer.backends],
            **self.scorer.protocol,
        }
        return Result(result_name(BENCHMARK, *self.scorer.backends), {self.category: score}, protocol)

    def _prompt(self, images: ImageSet, prompt: Prompt) -> float:
        if prompt.metadata.get("category") != self.category:
            raise UserError(
                f"{prompt.id}: not a {self.category} prompt of T2I-CompBench; give a prompt set of this category"
            )
        paths = images.images.get(prompt.id, ())
        if not paths:
            raise UserError(f"{prompt.id}: has no picture; run the evaluation again to make them")
        return fmean(self.scorer.score([open_image(path) for path in paths], prompt))


_SCORERS: dict[str, str] = {
    "color": "BlipVqa",
    "shape": "BlipVqa",
    "texture": "BlipVqa",
    "spatial": "Spatial",
    "non_spatial": "ClipSimilarity",
    "complex": "ThreeInOne",
    "numeracy": "Numeracy",
}


def overall(results: Sequence[Result]) -> Result:
    """The six columns of Table 4 of the SnapGen++ paper in one result, "overall" being their plain mean.

    "overall" has its prompts' values only where the columns have equally many, for their mean is its value then.

    Raises:
        UserError: a column is missing or given twice, or a result is of no column.
    """
    given = [str(result.protocol.get("category")) for result in results]
    if sorted(given) != sorted(COLUMNS):
        raise UserError(
            f"the overall wants one result each of {', '.join(COLUMNS)}; given: {', '.join(given) or 'none'}"
        )
    scores = {name: result.scores[name] for name, result in sorted(zip(given, results, strict=True), key=_first)}
    prompts = {len(score.by_prompt) for score in scores.values()}
    by_prompt = {k: v for s in scores.values() for k, v in s.by_prompt.items()} if len(prompts) == 1 else {}
    mean = Score(fmean(s.value for s in scores.values()), sum(s.samples for s in scores.values()), by_prompt)
    backends = dict.fromkeys(
        Backend(b["name"], b["version"], tuple(b["published_for"])) for r in results for b in r.protocol["backends"]
    )
    protocol = {"columns": {name: result.protocol for name, result in zip(given, results, strict=True)}}
    return Result(result_name(BENCHMARK, *backends), {"overall": mean, **scores}, protocol)


def _first(pair: tuple[str, Result]) -> str:
    return pair[0]
