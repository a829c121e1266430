"""Compare saved Core ML packages with PyTorch."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from pocketdit.export.common.bundle_files import DECODER, TEXT_PROJECTION, TRANSFORMER
from pocketdit.export.common.comparison import Comparison
from pocketdit.export.common.subject import Subject
from pocketdit.export.common.text_graphs import ExportedText
from pocketdit.export.common.verify import compare_packages, compare_texts, require_equal_outputs
from pocketdit.export.coreml import interpreter
from pocketdit.export.coreml.package import Package
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.export.coreml.stored_weights import require_stored_weights
from pocketdit.mobile.weights import mobile_weights


def require_equal(
    packages: Mapping[str, Package], subject: Subject, texts: Sequence[ExportedText | None], settings: CoreMLExport
) -> list[Comparison]:
    """Compare the packages' weights and outputs with the network, and print each comparison.

    Returns:
        The comparisons of the outputs.

    Raises:
        RunError: A weight is missing, or an output is outside the tolerance.
    """
    weights = mobile_weights(subject.network.state_dict(), subject.network.spec)
    weights |= {f"{name}.weight": factor[:, :, None, None] for name, factor in subject.lora.items()}
    count = require_stored_weights((packages[TRANSFORMER], packages[TEXT_PROJECTION]), weights, settings.precision)
    print(f"{count} matrices match those of the network bit for bit in {settings.precision}")
    compared = interpret_and_compare(packages, subject, texts, settings)
    return require_equal_outputs(compared, settings.tolerance)


def interpret_and_compare(
    packages: Mapping[str, Package], subject: Subject, texts: Sequence[ExportedText | None], settings: CoreMLExport
) -> Iterator[Comparison]:
    """Interpret the packages, and yield a comparison of each output with PyTorch.

    Raises:
        RunError: The interpreter does not support an operation. This is checked before any package is run.
    """
    for package in packages.values():
        interpreter.require_supported(package)

    def run(name: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return interpreter.run(packages[name], inputs, progress=name in (TRANSFORMER, DECODER))

    yield from compare_texts(run, texts, subject, packages[TRANSFORMER].path.parent)
    yield from compare_packages(run, packages, subject, settings, settings.batch)
