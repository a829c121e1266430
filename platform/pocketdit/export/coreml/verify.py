"""Compare saved Core ML packages with PyTorch."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pocketdit.errors import RunError
from pocketdit.export.common.bundle_files import DECODER, TEXT_PROJECTION, TRANSFORMER
from pocketdit.export.common.comparison import Comparison, compare
from pocketdit.export.common.subject import Subject
from pocketdit.export.coreml import interpreter
from pocketdit.export.coreml.graphs import make_example, text_projection_inputs
from pocketdit.export.coreml.package import Package
from pocketdit.export.coreml.settings import CoreMLExport
from pocketdit.export.coreml.stored_weights import require_stored_weights
from pocketdit.mobile.split_einsum import HIDDEN
from pocketdit.mobile.weights import mobile_weights


def require_equal(packages: Mapping[str, Package], subject: Subject, settings: CoreMLExport) -> list[Comparison]:
    """Compare the weights and outputs of the packages with those of the network, and print each comparison.

    Returns:
        The comparisons of the outputs.

    Raises:
        RunError: A weight is missing, or an output is outside the tolerance.
    """
    weights = mobile_weights(subject.network.state_dict(), subject.network.spec)
    count = require_stored_weights((packages[TRANSFORMER], packages[TEXT_PROJECTION]), weights, settings.precision)
    print(f"{count} matrices match those of the network bit for bit in {settings.precision}")
    comparisons = []
    for comparison in compare_packages(packages, subject, settings):
        print(comparison, flush=True)
        comparisons.append(comparison)
    tolerance = settings.tolerance
    if failed := [c for c in comparisons if not tolerance.accepts(c)]:
        worst = min(failed, key=lambda c: c.snr if not math.isnan(c.snr) else -math.inf)
        raise RunError(f"the packages differ from the network: {tolerance.describe_violation(worst)}")
    return comparisons


@torch.no_grad()
def compare_packages(packages: Mapping[str, Package], subject: Subject, settings: CoreMLExport) -> Iterator[Comparison]:
    """Run the packages and PyTorch on the same inputs, and yield a comparison of each output.

    The network is compared at each of ``settings.times``. The transformer's package takes its text from the package of
    the text projection.

    Raises:
        RunError: The interpreter does not support an operation. This is checked before anything is computed.
    """
    for package in packages.values():
        interpreter.require_supported(package)
    for time in settings.times:
        example = make_example(subject, settings.batch, time, settings.seed)
        text = interpreter.run(packages[TEXT_PROJECTION], text_projection_inputs(example.text))
        if time == settings.times[0]:
            tokens, mask = subject.network.text(example.text)
            yield compare("text", text["text"], tokens.transpose(1, 2)[:, :, None])
            yield compare("text mask", text["text_bias"], torch.where(mask, 0.0, HIDDEN)[:, :, None, None])
        inputs = {"latents": example.latents, "time": example.time, **text}
        velocity = interpreter.run(packages[TRANSFORMER], inputs, progress=True)["velocity"]
        expected = subject.network(example.latents, example.time, example.text)
        yield compare(f"velocity at time {time:g}", velocity, expected)
    if DECODER in packages:
        assert subject.decoder is not None
        decoder: Any = subject.decoder.module
        latents = make_example(subject, 1, 0.0, settings.seed).latents
        image = interpreter.run(packages[DECODER], {"latents": latents}, progress=True)["image"]
        yield compare("image", image, decoder.decode(latents))
