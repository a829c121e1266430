"""The interfaces between prompt sets, subjects, metrics and judges.

A metric turns an ``ImageSet`` into named ``Score``s. Images are matched to prompts by prompt id, never by position.
Metrics query judges: detectors, color readers, question answerers and encoders. Each judge identifies itself with a
``Backend``. If a judge differs from the published judge of the benchmark, the name of the result says so.

Images are RGB uint8 arrays (H, W, 3). Boxes are (left, top, right, bottom) in pixels, with y pointing down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from datamodules.shards import images
from pocketdit.errors import UserError

ImageArray = NDArray[np.uint8]

# GenEval's colors, from which a ``ColorReader`` chooses.
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")


@dataclass(frozen=True)
class Prompt:
    """A prompt of a benchmark.

    Attributes:
        id: Identifier that is unique within the prompt set and can be used as a file name.
        text: The text from which images are generated.
        metadata: All other fields of the prompt in the benchmark's file.
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one benchmark.

    Attributes:
        name: Name of the prompt set in results.
        prompts: The prompts, in the order of the benchmark's file.
        images_each: Number of images per prompt.
    """

    name: str
    prompts: tuple[Prompt, ...]
    images_each: int = 1


@dataclass(frozen=True)
class ImageSet:
    """The images of a prompt set.

    Attributes:
        prompts: The prompt set.
        images: Mapping from prompt ids to image files, which are ordered by seed.
        provenance: How the images were made (run or pipeline, hash of the weights, width, steps, guidance, seed,
            dtype), serializable as JSON.
    """

    prompts: PromptSet
    images: Mapping[str, tuple[Path, ...]]
    provenance: Mapping[str, Any]


def open_image(path: Path) -> ImageArray:
    """Read an image file with the colors that a color-managed viewer would show.

    Raises:
        UserError: The file is missing or cannot be decoded.
    """
    try:
        return np.asarray(images.open_image(path.read_bytes()).rgb)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image; run the evaluation again to create it") from error
    except (OSError, images.ImageError) as error:
        raise UserError(f"{path}: cannot be decoded ({error}); delete it and run the evaluation again") from error


@dataclass(frozen=True)
class Backend:
    """Identity of a judge.

    Attributes:
        name: Name of the judge in results.
        version: Versions and hashes that determine the judge's answers.
        published_for: Benchmarks whose published protocol uses exactly this judge.
    """

    name: str
    version: str
    published_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """A score and the values that it is computed from.

    Attributes:
        value: The score.
        samples: Number of images from which the score is computed.
        by_prompt: Mapping from prompt ids to values. Their mean is ``value`` unless the metric documents otherwise.
            Confidence intervals and paired comparisons are computed from these values. Empty if the score is defined
            only for the whole image set, as a Fréchet distance is.
    """

    value: float
    samples: int
    by_prompt: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The result of a metric on an image set.

    Attributes:
        metric: Name of the benchmark, followed in parentheses by any judges that differ from the published ones (see
            ``result_name``).
        scores: The named scores: "overall", if the benchmark defines it, and one per category.
        protocol: Everything needed to reproduce the scores from the images (prompt set, backends, constants),
            serializable as JSON.
        higher_is_better: Whether a higher "overall" score is better.
        notes: Sentences that a reader needs to interpret the scores, such as the highest possible score.
            Reports show them below the scores.
    """

    metric: str
    scores: Mapping[str, Score]
    protocol: Mapping[str, Any]
    higher_is_better: bool = True
    notes: tuple[str, ...] = ()


def result_name(benchmark: str, *backends: Backend) -> str:
    """Return the benchmark's name, followed in parentheses by any judges that differ from the published ones.

    For example, GenEval with rule-based judges is named "geneval (scene-rules)".
    """
    others = dict.fromkeys(backend.name for backend in backends if benchmark not in backend.published_for)
    return f"{benchmark} ({', '.join(others)})" if others else benchmark


class Metric(Protocol):
    """Scores the images of a prompt set.

    The evaluation's YAML selects the prompt set with the metric's ``init_args.prompts``.

    Attributes:
        prompts: Key of the prompt set under ``prompts`` in the YAML.
    """

    prompts: str

    def score(self, images: ImageSet) -> Result:
        """Score the images of the prompt set."""
        ...


class ImageFreeMetric(Protocol):
    """A metric that needs no images, such as a validation loss. It has no ``prompts`` argument."""

    def measure(self) -> Result:
        """Compute the result."""
        ...


@dataclass(frozen=True)
class Detection:
    """A detected object.

    Attributes:
        label: Name of the object's class.
        score: Confidence in [0, 1].
        box: (left, top, right, bottom) in pixels.
        mask: Boolean mask (H, W), or None if the detector does not provide masks.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_] | None = None


class Detector(Protocol):
    """Detects the objects of a fixed set of classes."""

    backend: Backend

    def detect(self, image: ImageArray) -> list[Detection]:
        """Return all detections, without applying a score threshold."""
        ...


@runtime_checkable
class OpenDetector(Protocol):
    """Detects objects of any class, given the names of the classes."""

    backend: Backend

    def detect_named(self, image: ImageArray, names: Sequence[str]) -> list[Detection]:
        """Return all detections, without applying a score threshold. Their labels are among ``names``."""
        ...


class ColorReader(Protocol):
    """Names the colors of detected objects."""

    backend: Backend

    def colors(self, image: ImageArray, detections: Sequence[Detection]) -> list[str]:
        """Return one of ``COLORS`` for each detection."""
        ...


class QuestionAnswerer(Protocol):
    """Answers questions about an image."""

    backend: Backend

    def answers(self, image: ImageArray, questions: Sequence[str]) -> list[str]:
        """Return the answer to each question, in lower case."""
        ...

    def yes_probabilities(self, image: ImageArray, questions: Sequence[str]) -> list[float]:
        """Return, for each question, the probability that the answer is yes."""
        ...


@runtime_checkable
class AnswerJudge(Protocol):
    """Estimates the probabilities of given answers to questions about an image."""

    backend: Backend

    def answer_probabilities(
        self, image: ImageArray, questions: Sequence[str], spellings: Sequence[Sequence[str]]
    ) -> list[float]:
        """Return, for each question, the probability that the answer begins with one of the question's spellings."""
        ...


class ImageEncoder(Protocol):
    """Encodes images of any size as float32 features (N, D)."""

    backend: Backend

    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        """Encode N images as features of shape (N, D)."""
        ...


class ImageTextEncoder(ImageEncoder, Protocol):
    """An ``ImageEncoder`` that also maps texts into the same feature space. All features have norm 1."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode N texts as features of shape (N, D)."""
        ...


class NounChunker(Protocol):
    """Finds the noun chunks of a text."""

    backend: Backend

    def chunks(self, text: str) -> list[str]:
        """Return the noun chunks in order, exactly as they appear in the text."""
        ...
