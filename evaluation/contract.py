"""What metrics and judges are given, and what they return.

A metric is one class: an ``ImageSet`` in, named ``Score``s out. Images and prompts meet by the prompt's id, never by
position. Judges (detectors, colour readers, question answerers, encoders) are what a metric asks; each says which it
is, and a metric judged by another than the published one never carries the benchmark's bare name.

Pictures are RGB uint8 (H, W, 3); boxes are (left, top, right, bottom) in pixels, y down.
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

# The ten color names of GenEval, among which a ``ColorReader`` chooses.
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")


@dataclass(frozen=True)
class Prompt:
    """``id`` is unique in its set and a plain file name. ``metadata`` is what the benchmark's own file says of it."""

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one benchmark. ``images_each``: pictures that its protocol asks for per prompt."""

    name: str
    prompts: tuple[Prompt, ...]
    images_each: int = 1


@dataclass(frozen=True)
class ImageSet:
    """Pictures of a prompt set. ``images``: files by prompt id, in the order of their seeds.

    ``provenance``: how they were made (run or pipeline, weights' hash, width, steps, guidance, seed, dtype); ready
    for JSON.
    """

    prompts: PromptSet
    images: Mapping[str, tuple[Path, ...]]
    provenance: Mapping[str, Any]


def open_image(path: Path) -> ImageArray:
    """A picture file as RGB; raises ``UserError`` naming a file that is missing or does not decode."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such picture; run the evaluation again to make it") from error
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path}: does not decode ({error}); delete it and run the evaluation again") from error


@dataclass(frozen=True)
class Backend:
    """Which judge gave a score. ``published_for``: benchmarks whose published protocol has this very judge."""

    name: str
    version: str
    published_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """A number, how many pictures it rests on, and its parts.

    ``by_prompt``: the prompts' own values, of which ``value`` is the mean unless the metric says otherwise; empty
    where the number belongs to the set as a whole (a Fréchet distance). Confidence intervals and paired comparisons
    are computed from it.
    """

    value: float
    samples: int
    by_prompt: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a metric found. ``scores`` has "overall" (where the benchmark has one) and the categories.

    ``metric``: the benchmark's name, with the backend's in brackets where it is not the published judge
    (``result_name``). ``higher_is_better`` is of "overall". ``protocol``: everything needed to reproduce the numbers
    besides the pictures (prompt set, backend and version, constants); ready for JSON.
    """

    metric: str
    scores: Mapping[str, Score]
    protocol: Mapping[str, Any]
    higher_is_better: bool = True


def result_name(benchmark: str, *backends: Backend) -> str:
    """ "geneval", or "geneval (scene-rules)" where a judge is not the one that the benchmark publishes."""
    others = dict.fromkeys(backend.name for backend in backends if benchmark not in backend.published_for)
    return f"{benchmark} ({', '.join(others)})" if others else benchmark


class Metric(Protocol):
    """``prompts``: name of the prompt set that it scores, as the evaluation's YAML calls it."""

    prompts: str

    def score(self, images: ImageSet) -> Result: ...


@dataclass(frozen=True)
class Detection:
    """An object found: its class by name, a score in [0, 1], its box, and its mask (H, W) where the judge has one."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_] | None = None


class Detector(Protocol):
    """Finds objects of the classes it knows; no threshold applied yet."""

    backend: Backend

    def detect(self, picture: ImageArray) -> list[Detection]: ...


class ColorReader(Protocol):
    """Names the colour of each detection."""

    backend: Backend

    def colors(self, picture: ImageArray, detections: Sequence[Detection]) -> list[str]: ...


class QuestionAnswerer(Protocol):
    """Answers questions about a picture: in lower-case words, or by the probability that the answer is yes."""

    backend: Backend

    def answers(self, picture: ImageArray, questions: Sequence[str]) -> list[str]: ...

    def yes_probabilities(self, picture: ImageArray, questions: Sequence[str]) -> list[float]: ...


class ImageEncoder(Protocol):
    """Pictures of any sizes to features (N, D), float32."""

    backend: Backend

    def encode_images(self, pictures: Sequence[ImageArray]) -> NDArray[np.float32]: ...


class ImageTextEncoder(ImageEncoder, Protocol):
    """An ``ImageEncoder`` that puts texts into the same space; both kinds of feature have norm 1."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class NounChunks(Protocol):
    """Finds the noun chunks of a text, in order, as they are written there."""

    backend: Backend

    def chunks(self, text: str) -> list[str]: ...
