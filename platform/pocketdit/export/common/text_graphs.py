"""The text encoders of a bundle, each with a graph and a tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketdit.config.component import Component, build
from pocketdit.config.importing import import_class
from pocketdit.encoders.contract import FrozenModule
from pocketdit.encoders.portable import PortableEncoder, PortableText
from pocketdit.export.common.float16 import require_float16_range
from pocketdit.export.common.graph import Graph
from pocketdit.export.common.settings import BaseExport
from pocketdit.export.common.subject import Subject

EMBEDDINGS = "embeddings"
"""Name of the output of a text encoder's package."""


@dataclass(frozen=True)
class ExportedText:
    """A text encoder of a bundle.

    Attributes:
        package: Name of the encoder's package.
        encoder: The original encoder, with which the package is compared.
        portable: The encoder's tokenizer and graph.
    """

    package: str
    encoder: Any
    portable: PortableText

    def graph(self) -> Graph:
        """Return the graph to convert."""
        return Graph(self.portable.module, self.portable.inputs, (EMBEDDINGS,))

    def tokenizer_entry(self) -> dict[str, Any]:
        """Return the tokenizer's entry in the manifest. File names in this entry are relative to the bundle."""
        settings = dict(self.portable.tokenizer)
        if "file" in settings:
            settings["file"] = f"{self.package}/{settings['file']}"
        return settings

    def write_files(self, folder: Path) -> None:
        """Write the tokenizer's files to a bundle."""
        for name, content in self.portable.files.items():
            path = folder / self.package / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def load_texts(settings: BaseExport, subject: Subject) -> list[ExportedText | None]:
    """Load the text encoders of a network. Encoders that cannot be exported become None, and a note is printed.

    If the network has random weights, encoders whose weights are not on this machine become None as well.

    Raises:
        ConfigError: A weight is beyond the range of float16.
        RunError: The weights of an encoder are missing or damaged.
    """
    texts = [_load(settings, position, c) for position, c in enumerate(subject.experiment.text_encoders)]
    for position, (component, text) in enumerate(zip(subject.experiment.text_encoders, texts, strict=True)):
        if text is None:
            print(
                f"note: text encoder {position} ({component.class_path}) is not in the bundle; an app must set "
                f"mask_{position} to 0"
            )
    return texts


def _load(settings: BaseExport, position: int, component: Component) -> ExportedText | None:
    cls = import_class(component.class_path)
    if not issubclass(cls, PortableEncoder):
        return None
    has_files = issubclass(cls, FrozenModule) and cls.weight_sources
    if settings.run is None and has_files and cls.weights_folder(component.init_args) is None:
        return None
    encoder = build(component)
    portable = encoder.portable()
    if settings.precision == "float16":
        require_float16_range(portable.module.state_dict(), component.class_path)
    return ExportedText(f"text_encoder_{position}", encoder, portable)


def text_entries(subject: Subject, texts: Sequence[ExportedText | None]) -> list[dict[str, Any]]:
    """Return the manifest's entries for all text encoders."""
    columns = zip(subject.experiment.text_encoders, subject.text_lengths, subject.network.spec.text_inputs, texts,
                  strict=True)  # fmt: skip
    return [
        {
            "class_path": component.class_path,
            "init_args": component.init_args,
            "tokens": tokens,
            "width": width,
            "package": text.package if text else None,
            "tokenizer": text.tokenizer_entry() if text else None,
        }
        for component, tokens, width, text in columns
    ]


def text_graphs(texts: Sequence[ExportedText | None]) -> dict[str, Graph]:
    """Return the graph of each exported text encoder, under the name of its package."""
    return {text.package: text.graph() for text in texts if text is not None}
