"""The license and the authors of a data set's images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribution:
    """The attribution that the license of a data set's images requires.

    Attributes:
        license: Short name of the license.
        url: Address of the license.
        text: Names of the authors, source of the images, and description of the changes.
    """

    license: str
    url: str
    text: str

    def __str__(self) -> str:
        return f"{self.text} License: {self.license} ({self.url})"
