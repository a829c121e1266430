"""Run saved Core AI packages, and compare them with PyTorch."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import chain

from torch import Tensor

from pocketdit.export.common.bundle_files import TEXT_PROJECTION, TRANSFORMER
from pocketdit.export.common.comparison import Comparison
from pocketdit.export.common.subject import Subject
from pocketdit.export.common.text_graphs import ExportedText
from pocketdit.export.common.verify import compare_packages, compare_texts, require_equal_outputs
from pocketdit.export.coreai.package import Package
from pocketdit.export.coreai.runtime import CoreAIModel
from pocketdit.export.coreai.settings import CoreAIExport
from pocketdit.export.coreai.stored_weights import require_stored_weights


def require_equal(
    packages: Mapping[str, Package], subject: Subject, texts: Sequence[ExportedText | None], settings: CoreAIExport
) -> list[Comparison]:
    """Compare the packages' weights and outputs with the network, and print each comparison.

    Returns:
        The comparisons of the outputs.

    Raises:
        RunError: A weight is missing, an output is outside the tolerance, or a package cannot be run.
    """
    stored_in = (packages[TRANSFORMER], packages[TEXT_PROJECTION])
    count = require_stored_weights(stored_in, subject.network.state_dict(), settings.precision)
    print(f"{count} matrices match those of the network bit for bit in {settings.precision}")
    with ExitStack() as stack:
        models: dict[str, CoreAIModel] = {}

        def run(name: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            if name not in models:
                models[name] = stack.enter_context(CoreAIModel(packages[name].path))
            return models[name](inputs)

        compared = chain(
            compare_texts(run, texts, subject, packages[TRANSFORMER].path.parent),
            compare_packages(run, packages, subject, settings, settings.batch),
        )
        return require_equal_outputs(compared, settings.tolerance)
