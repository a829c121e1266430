"""The questions that raters answer about two images: the three attributes of the paper's Fig. 7."""

from dataclasses import dataclass
from typing import Literal

Name = Literal["realism", "fidelity", "alignment"]
Choice = Literal["left", "tie", "right"]

CHOICES: tuple[Choice, ...] = ("left", "tie", "right")


@dataclass(frozen=True)
class Question:
    """A question about two images.

    Attributes:
        text: The question.
        help: What raters should look at.
    """

    text: str
    help: str


QUESTIONS: dict[Name, Question] = {
    "realism": Question(
        "Which image looks more real?",
        "Could it be a photo of a real scene, or a real artwork of the kind that the text requests?",
    ),
    "fidelity": Question(
        "Which has the better visual quality?",
        "Look for sharp details, clean shapes and textures, and few visible errors.",
    ),
    "alignment": Question(
        "Which matches the text better?",
        "Compare objects, numbers, colors and positions with the text. Ignore how beautiful the images are.",
    ),
}
