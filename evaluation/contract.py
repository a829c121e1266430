"""The interfaces between prompt sets, subjects, metrics and judges.

A metric is a class that turns an ``ImageSet`` into named ``Score``s. Images are matched to prompts by the prompt's id,
never by position. Judges (detectors, color readers, question answerers, encoders) are what a metric asks about an
image. Each judge identifies itself with a ``Backend``, and a score from any judge other than the published one never
carries the benchmark's bare name.

Images are RGB uint8 arrays (H, W, 3). Boxes are (left, top, right, bottom) in pixels, with y pointing down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketdit.errors import UserError

ImageArray = NDArray[np.uint8]

# The colors of GenEval, from which a ``ColorReader`` chooses.
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")


@dataclass(frozen=True)
class Prompt:
    """A prompt of a benchmark.

    Attributes:
        id: Unique within the prompt set, and usable as a file name.
        text: What the model is asked to draw.
        metadata: Everything else that the benchmark's file states about the prompt.
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
        images_each: Images per prompt that the benchmark's protocol asks for.
    """

    name: str
    prompts: tuple[Prompt, ...]
    images_each: int = 1


@dataclass(frozen=True)
class ImageSet:
    """The images of a prompt set.

    Attributes:
        prompts: The prompt set.
        images: Image files by prompt id, in the order of their seeds.
        provenance: How the images were made (run or pipeline, hash of the weights, width, steps, guidance, seed,
            dtype), serializable as JSON.
    """

    prompts: PromptSet
    images: Mapping[str, tuple[Path, ...]]
    provenance: Mapping[str, Any]


def open_image(path: Path) -> ImageArray:
    """Read an image file as RGB.

    Raises:
        UserError: The file is missing or cannot be decoded.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such image; run the evaluation again to create it") from error
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: cannot be decoded ({error}); delete it and run the evaluation again") from error


@dataclass(frozen=True)
class Backend:
    """Identity of a judge.

    Attributes:
        name: Name of the judge in results.
        version: Versions and hashes that determine its answers.
        published_for: Benchmarks whose published protocol uses exactly this judge.
    """

    name: str
    version: str
    published_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """A number with the parts that it is computed from.

    Attributes:
        value: The score.
        samples: Number of images behind the score.
        by_prompt: Values of the individual prompts, whose mean is ``value`` unless the metric documents otherwise.
            Confidence intervals and paired comparisons are computed from them. Empty where the score belongs to the
            set as a whole, such as a Fréchet distance.
    """

    value: float
    samples: int
    by_prompt: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The result of a metric on an image set.

    Attributes:
        metric: Name of the benchmark, followed by the judges in parentheses where they are not the published ones
            (see ``result_name``).
        scores: "overall", where the benchmark defines it, and the categories.
        protocol: Everything besides the images that is needed to reproduce the scores (prompt set, backends,
            constants), serializable as JSON.
        higher_is_better: Direction of the "overall" score.
    """

    metric: str
    scores: Mapping[str, Score]
    protocol: Mapping[str, Any]
    higher_is_better: bool = True


def result_name(benchmark: str, *backends: Backend) -> str:
    """Return "geneval", or "geneval (scene-rules)" if a judge is not the one that the benchmark publishes."""
    others = dict.fromkeys(backend.name for backend in backends if benchmark not in backend.published_for)
    return f"{benchmark} ({', '.join(others)})" if others else benchmark


class Metric(Protocol):
    """Scores the images of a prompt set.

    The evaluation's YAML names the prompt set in the metric's ``init_args.prompts``.

    Attributes:
        prompts: Key of the prompt set under ``prompts`` in the YAML.
    """

    prompts: str

    def score(self, images: ImageSet) -> Result: ...


class ImageFreeMetric(Protocol):
    """Measures something that needs no images, such as a validation loss. It has no argument ``prompts``."""

    def measure(self) -> Result: ...


@dataclass(frozen=True)
class Detection:
    """A detected object.

    Attributes:
        label: Name of its class.
        score: Confidence in [0, 1].
        box: (left, top, right, bottom) in pixels.
        mask: Boolean mask (H, W), where the detector provides one.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_] | None = None


class Detector(Protocol):
    """Detects the objects of the classes it knows, without applying a score threshold."""

    backend: Backend

    def detect(self, image: ImageArray) -> list[Detection]: ...


class ColorReader(Protocol):
    """Names the color of each detection, one of ``COLORS``."""

    backend: Backend

    def colors(self, image: ImageArray, detections: Sequence[Detection]) -> list[str]: ...


class QuestionAnswerer(Protocol):
    """Answers questions about an image, in lower-case words or as the probability that the answer is yes."""

    backend: Backend

    def answers(self, image: ImageArray, questions: Sequence[str]) -> list[str]: ...

    def yes_probabilities(self, image: ImageArray, questions: Sequence[str]) -> list[float]: ...


class ImageEncoder(Protocol):
    """Encodes images of any size as float32 features (N, D)."""

    backend: Backend

    def encode_images(self, images: Sequence[ImageArray]) -> NDArray[np.float32]: ...


class ImageTextEncoder(ImageEncoder, Protocol):
    """An ``ImageEncoder`` that also maps texts into the same space. All features have norm 1."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class NounChunker(Protocol):
    """Finds the noun chunks of a text, in order and exactly as they are written."""

    backend: Backend

    def chunks(self, text: str) -> list[str]: ...
