"""Finds noun chunks with spaCy's parser, as T2I-CompBench does."""

from typing import Any

from evaluation.contract import Backend
from pocketdit.errors import UserError

_WHEELS = "github.com/explosion/spacy-models/releases"


class SpacyChunks:
    """Finds noun chunks with spaCy's parser (spacy.io).

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
                f"SpacyChunks needs spaCy; run pip install spacy and install en_core_web_sm from {_WHEELS} "
                "(on air-gapped machines, install both from wheels), or use RuleChunks, which needs neither"
            ) from error
        try:
            self._parse: Any = spacy.load(model)
        except OSError as error:
            raise UserError(
                f"spaCy model {model}: not found; install its wheel from {_WHEELS} with pip, set model to the folder "
                "of an unpacked model, or use RuleChunks, which needs no model"
            ) from error
        meta = self._parse.meta
        name = f"{meta['lang']}_{meta['name']}"
        published = ("t2i-compbench",) if name == "en_core_web_sm" else ()
        self.backend = Backend(f"spacy-{name}", f"spacy {spacy.__version__}, model {meta['version']}", published)

    def chunks(self, text: str) -> list[str]:
        """Return the noun chunks of a text, in order."""
        return [chunk.text for chunk in self._parse(text).noun_chunks]
