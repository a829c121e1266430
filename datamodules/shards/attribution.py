"""The license and the authors of a data set's images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribution:
    """What the license of a data set's images requires.

    Attributes:
        license: Short name of the license.
        url: Address of the license.
        text: Names of the authors, where the images come from, and what was changed.
    """

    license: str
    url: str
    text: str

    def __str__(self) -> str:
        return f"{self.text} License: {self.license} ({self.url})"
