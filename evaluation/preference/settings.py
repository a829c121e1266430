"""The configuration of a preference study (one YAML file in ``experiments/eval/studies/``)."""

from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated

from evaluation.preference.questions import QUESTIONS, Name
from evaluation.settings import PROMPT_SET, SUBJECT
from pocketdit.bounds import Between, check_bounds
from pocketdit.config.component import Component
from pocketdit.config.errors import did_you_mean
from pocketdit.config.experiment import Tracking
from pocketdit.names import is_plain_name

FOLDER = "studies"
DATABASE = "study.db"
_MAX_CHECKS = 50


@dataclass(frozen=True)
class Checks:
    """Comparisons that show whether a rater pays attention. They do not count as votes.

    Attributes:
        noise: Number of comparisons of an image with pure noise. A rater fails this check if any answer does not
            choose the image.
        repeat: Number of comparisons that are shown again later, with the sides swapped. A rater fails this check if
            all answers contradict the earlier ones.
        allowed_failures: Maximum number of failed checks. Raters who fail more checks are excluded from the report.
    """

    noise: Annotated[int, Between(0, _MAX_CHECKS)] = 2
    repeat: Annotated[int, Between(0, _MAX_CHECKS)] = 2
    allowed_failures: Annotated[int, Between(0, 2 * _MAX_CHECKS)] = 1

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class Preference:
    """The settings of ``lightning preference``.

    The settings ``run`` and ``data`` have no effect by themselves. They can be set on the command line, and the YAML
    passes them on to components by interpolation (``run: ${run}``).

    Attributes:
        preference: Name of the preference study and of its folder in ``studies`` under ``out``.
        subjects: Mapping from names to models or image folders. Raters never see the names.
        prompts: The prompts. One image per prompt and subject is shown.
        compare: Pairs of subjects, by name, that raters compare; an empty list compares all subjects with each other.
        questions: Questions about each pair of images.
        ties: Whether raters can answer that there is no difference.
        pairs_per_rater: Pairs of images that each rater compares, in addition to the checks.
        checks: Attention checks of each rater.
        raters: Number of raters to invite. Each rater has a link with a token. The number can be increased later.
        seed: Seed for drawing the order, the sides and the checks.
        run: Name of a run.
        data: Folder for the benchmarks' files.
        out: Folder for results and images.
        storage: SQLAlchemy URL of the database for the answers; "" uses an SQLite file in the study's folder.
        tracking: Where the report is logged.
    """

    preference: str
    subjects: dict[str, Annotated[Component, SUBJECT]]
    prompts: Annotated[Component, PROMPT_SET]
    compare: tuple[tuple[str, str], ...] = ()
    questions: tuple[Name, ...] = tuple(QUESTIONS)
    ties: bool = False
    pairs_per_rater: Annotated[int, Between(1, 10_000)] = 50
    checks: Checks = field(default_factory=Checks)
    raters: Annotated[int, Between(0, 10_000)] = 0
    seed: int = 0
    run: str = ""
    data: Path = Path("data/evaluation")
    out: Path = Path("evaluations")
    storage: str = ""
    tracking: Tracking = field(default_factory=Tracking)

    def __post_init__(self) -> None:
        check_bounds(self)
        if not is_plain_name(self.preference):
            raise ValueError(f"preference must be a plain name (it names a folder under out), not {self.preference!r}")
        if len(self.subjects) < 2:
            raise ValueError("subjects must contain at least two subjects to compare")
        for name in (name for pair in self.compare for name in pair):
            if name not in self.subjects:
                raise ValueError(f"compare: there is no subject {name!r}{did_you_mean(name, self.subjects)}")
        seen: set[frozenset[str]] = set()
        for pair in map(frozenset, self.compare):
            if len(pair) < 2 or pair in seen:
                names = " and ".join(sorted(pair))
                problem = "occur twice" if pair in seen else "cannot be compared with itself"
                raise ValueError(f"compare: {names} {problem}")
            seen.add(pair)
        if not self.questions or len(set(self.questions)) < len(self.questions):
            raise ValueError("questions must contain at least one question, and each question only once")

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of subjects that raters compare."""
        return self.compare or tuple(combinations(self.subjects, 2))

    @property
    def folder(self) -> Path:
        """The folder of the preference study."""
        return self.out / FOLDER / self.preference

    @property
    def url(self) -> str:
        """The URL of the database."""
        return self.storage or f"sqlite:///{self.folder / DATABASE}"
