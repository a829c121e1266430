"""Look up or predict the cost of an operating point in one format on a device."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from pocketdit.errors import ConfigError
from pocketdit.export.common.bundle_files import CENSUS, DECODER, TRANSFORMER
from pocketdit.export.common.census import Census
from pocketdit.latency.bundles import Bundle
from pocketdit.latency.candidates import Cost
from pocketdit.latency.cost import memory_bytes
from pocketdit.latency.devices import Device, find_device
from pocketdit.latency.formats import FP16_BITS, Format
from pocketdit.latency.palettes import with_palettes
from pocketdit.latency.predict import predict
from pocketdit.latency.quality import OperatingPoint
from pocketdit.latency.records import LatencyRecord, content_hash, read_records
from pocketdit.latency.report import bundle_censuses, prediction_caveats

if TYPE_CHECKING:
    from pocketdit.backbones.spec import DiTSpec
    from pocketdit.config.experiment import Experiment

UNITS = "CPU_AND_NE"  # compute units that predictions assume; the paper does not say which ones it used
AS_MEASURED = "no bundle: assumed to take as long as in the format in which this network was measured"


def cost_of_point(
    point: OperatingPoint,
    target: Format,
    device: str,
    bundles: Sequence[Bundle],
    experiment: "Experiment",
    size: tuple[int, int],
) -> Cost:
    """Return the measured cost of an operating point in one format or, if it was not measured, the predicted cost.

    The prediction is based on the newest bundle in this format. Without one, it is based on a bundle in another format,
    which has the same operations, or else on the description of the network.

    Args:
        point: The operating point.
        target: The format of the bundle.
        device: Name of the device.
        bundles: Bundles for this image size, newest first.
        experiment: Configuration of the run to deploy, which the other runs quantize.
        size: Image height and width in pixels.

    Raises:
        ConfigError: The device is unknown and has no measurements, or the network does not support the size.
    """
    exported = matching_bundles(point, target, bundles)
    for bundle in exported:
        if cost := _measured_cost(bundle, device):
            return cost
    known_device = find_device(device)
    if exported:
        return _cost_from_bundle(exported[0], known_device)
    has_palettes = point.bits < FP16_BITS
    others = [b for b in bundles if (b.run, b.width) == (point.run, point.width) and (b.folder / CENSUS).is_file()]
    if others and (target.stores_palettes or not has_palettes):
        for bundle in others:
            if cost := _measured_cost(bundle, device):
                return replace(cost, source="predicted, no bundle", note=AS_MEASURED)
        return replace(_cost_from_bundle(others[0], known_device), source="predicted, no bundle")
    census = census_from_description(experiment, point.width, size)
    if has_palettes and target.stores_palettes:
        census = with_palettes(census, point.bits)
    prediction = predict(census, known_device)
    return Cost(
        prediction.milliseconds, prediction.low, prediction.high, 0.0, memory_bytes(census), "predicted, no bundle",
        note=prediction_caveats(census, known_device),
    )  # fmt: skip


def matching_bundles(point: OperatingPoint, target: Format, bundles: Sequence[Bundle]) -> list[Bundle]:
    """Return the bundles of an operating point's network in one format."""
    return [b for b in bundles if (b.run, b.width, b.format) == (point.run, point.width, target.name)]


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


def census_from_description(experiment: "Experiment", width: float, size: tuple[int, int]) -> Census:
    """Return the census that an fp16 export with default settings would have.

    Raises:
        ConfigError: The network does not support the size.
    """
    from pocketdit.config.declared import text_lengths
    from pocketdit.export.common.subject import require_latent_size

    latent_size = require_latent_size(experiment, size)
    tokens = 1 + sum(text_lengths(experiment.text_encoders))
    try:
        return _trace(experiment.backbone, width, latent_size, tokens)
    except ValueError as error:
        raise ConfigError(f"size={size[0]}x{size[1]}: {error}") from error


@cache
def _trace(spec: "DiTSpec", width: float, latent_size: tuple[int, int], tokens: int) -> Census:
    from pocketdit.export.coreml.settings import CoreMLExport
    from pocketdit.latency.traced_census import trace_census

    options = {"blockwise": CoreMLExport.blockwise, "query_chunk": CoreMLExport.query_chunk}
    return trace_census(spec, width, latent_size, tokens, **options).merged()
