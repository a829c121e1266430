"""Look up or predict the cost of a width on a device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pocketdit.errors import ConfigError
from pocketdit.export.common.bundle_files import DECODER, TRANSFORMER
from pocketdit.latency.bundles import Bundle
from pocketdit.latency.candidates import Cost
from pocketdit.latency.cost import memory_bytes
from pocketdit.latency.devices import Device, find_device
from pocketdit.latency.predict import predict
from pocketdit.latency.records import LatencyRecord, content_hash, read_records
from pocketdit.latency.report import bundle_censuses, prediction_caveats

if TYPE_CHECKING:
    from pocketdit.config.experiment import Experiment

UNITS = "CPU_AND_NE"  # compute units that predictions assume; the paper does not state which it used


def cost_of_width(
    width: float, device: str, bundles: Sequence[Bundle], experiment: "Experiment", size: tuple[int, int]
) -> Cost:
    """Return the measured cost of a width or, if it was not measured, the predicted cost.

    The prediction is based on the newest bundle or, without a bundle, on the description of the network.

    Args:
        width: Width of the sub-network.
        device: Name of the device.
        bundles: Bundles of the run for this image size, newest first.
        experiment: Configuration of the run.
        size: Image height and width in pixels.

    Raises:
        ConfigError: The device is unknown and has no measurements, or the network does not support the size.
    """
    bundles = [bundle for bundle in bundles if bundle.width == width]
    for bundle in bundles:
        if cost := _measured_cost(bundle, device):
            return cost
    known_device = find_device(device)
    if bundles:
        return _cost_from_bundle(bundles[0], known_device)
    return _cost_from_description(experiment, width, size, known_device)


def _measured_cost(bundle: Bundle, device: str) -> Cost | None:
    records = [r for r in read_records(bundle.folder) if r.kind == "measured" and r.device == device]
    transformer = _newest(records, bundle, TRANSFORMER)
    if transformer is None:
        return None
    decoder = _newest(records, bundle, DECODER)
    return Cost(
        transformer.milliseconds,
        transformer.low,
        transformer.high,
        decoder.milliseconds if decoder else 0.0,
        memory_bytes(bundle.census()),
        "measured",
        bundle.batch,
        f"measured on {transformer.units}, {transformer.system}; the interval is the {transformer.spread}",
    )


def _newest(records: Sequence[LatencyRecord], bundle: Bundle, package: str) -> LatencyRecord | None:
    """Return the newest record of a package's current content, preferring records of the Neural Engine."""
    matching = [record for record in records if record.what == package and bundle.has(package)]
    if matching:
        current = content_hash(bundle.path_of(package))
        matching = [record for record in matching if record.sha256 == current]
    engine = [record for record in matching if record.units == UNITS]
    return (engine or matching)[-1] if matching else None


def _cost_from_bundle(bundle: Bundle, device: Device) -> Cost:
    censuses = bundle_censuses(bundle)
    decoder = predict(censuses[DECODER], device).milliseconds if DECODER in censuses else 0.0
    census = censuses[TRANSFORMER]
    prediction = predict(census, device)
    return Cost(
        prediction.milliseconds, prediction.low, prediction.high, decoder, memory_bytes(census), "predicted",
        bundle.batch, prediction_caveats(census, device),
    )  # fmt: skip


def _cost_from_description(experiment: "Experiment", width: float, size: tuple[int, int], device: Device) -> Cost:
    """Predict the cost of an export with default settings."""
    from pocketdit.config.declared import text_lengths
    from pocketdit.export.common.subject import require_latent_size
    from pocketdit.export.coreml.settings import CoreMLExport
    from pocketdit.latency.traced_census import trace_census

    latent_size = require_latent_size(experiment, size)
    tokens = 1 + sum(text_lengths(experiment.text_encoders))
    options = {"blockwise": CoreMLExport.blockwise, "query_chunk": CoreMLExport.query_chunk}
    try:
        census = trace_census(experiment.backbone, width, latent_size, tokens, **options)
    except ValueError as error:
        raise ConfigError(f"size={size[0]}x{size[1]}: {error}") from error
    prediction = predict(census, device)
    return Cost(
        prediction.milliseconds, prediction.low, prediction.high, 0.0, memory_bytes(census), "predicted, no bundle",
        note=prediction_caveats(census, device),
    )  # fmt: skip
