"""Noun chunks by spaCy's parser, as T2I-CompBench uses them."""

from typing import Any

from evaluation.contract import Backend
from pocketdit.errors import UserError

_WHEELS = "github.com/explosion/spacy-models/releases"


class SpacyChunks:
    """Noun chunks by spaCy's parser (spacy.io).

    Args:
        model: Name of an installed model package, or a folder that contains one. The published model is
            en_core_web_sm.

    Raises:
        UserError: spaCy or the model is not installed.
    """

    def __init__(self, model: str = "en_core_web_sm") -> None:
        try:
            import spacy  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise UserError(
                f"SpacyChunks needs spaCy: pip install spacy and the wheel of en_core_web_sm from {_WHEELS} "
                "(an air-gapped machine installs both from wheels); or use the stand-in RuleChunks, which needs neither"
            ) from error
        try:
            self._parse: Any = spacy.load(model)
        except OSError as error:
            raise UserError(
                f"cannot find the spaCy model {model}: pip install its wheel from {_WHEELS}, or give the folder of an "
                "unpacked model; or use the stand-in RuleChunks, which needs no model"
            ) from error
        meta = self._parse.meta
        name = f"{meta['lang']}_{meta['name']}"
        published = ("t2i-compbench",) if name == "en_core_web_sm" else ()
        self.backend = Backend(f"spacy-{name}", f"spacy {spacy.__version__}, model {meta['version']}", published)

    def chunks(self, text: str) -> list[str]:
        return [chunk.text for chunk in self._parse(text).noun_chunks]
