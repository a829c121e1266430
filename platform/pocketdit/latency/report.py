"""Predict or measure a bundle's latency, and return tables of all its latency records, for ``lightning latency``."""

from pocketdit.errors import RunError
from pocketdit.export.common.bundle_files import CENSUS, DECODER, TRANSFORMER
from pocketdit.export.common.census import Census
from pocketdit.latency.bundles import Bundle
from pocketdit.latency.cost import COST_KINDS, memory_bytes
from pocketdit.latency.devices import Device, find_device
from pocketdit.latency.ladder import DEVICE, SMALLEST_FLOPS
from pocketdit.latency.predict import SPREAD, predict
from pocketdit.latency.records import LatencyRecord, add_record, content_hash, latency_tables, read_records, timestamp
from pocketdit.latency.settings import Latency

OTHER_DEVICE = "extrapolated: scaled from the iPhone 16 Pro Max with published figures, without measurements"
OTHER_ENGINE = "extrapolated: scaled from the iPhone 14 Pro by the published latency ratio of one 8-bit U-Net"
SMALL_GRAPH = "extrapolated: this graph is much smaller than any in the fit; fixed costs may be higher than predicted"


def prediction_caveats(census: Census, device: Device) -> str:
    """Describe known sources of error that the prediction interval does not cover, or return an empty string."""
    caveats = [] if device.calibrated else [OTHER_DEVICE if device.speed == 1 else OTHER_ENGINE]
    if census.flops < SMALLEST_FLOPS / 10:
        caveats.append(SMALL_GRAPH)
    return "; ".join(caveats)


def bundle_censuses(bundle: Bundle) -> dict[str, Census]:
    """Return the censuses of the transformer and, if the bundle contains a decoder, of the decoder."""
    censuses = {TRANSFORMER: bundle.census()}
    if bundle.has(DECODER):
        # Importing coremltools is slow and prints warnings on Linux.
        from pocketdit.export.coreml.census import take_census
        from pocketdit.export.coreml.package import Package

        censuses[DECODER] = take_census(Package(bundle.path_of(DECODER)))
    return censuses


def predicted_record(bundle: Bundle, package: str, census: Census, device: Device) -> LatencyRecord:
    """Predict the latency of one evaluation of a package on the Neural Engine, and return a record of the prediction.

    For the transformer, the hash in the record is the hash of the census file.
    """
    prediction = predict(census, device)
    source = bundle.folder / CENSUS if package == TRANSFORMER else bundle.path_of(package)
    return LatencyRecord(
        package, content_hash(source), "predicted", device.name, "", "CPU_AND_NE", bundle.batch_of(package),
        bundle.size_text, prediction.milliseconds, prediction.low, prediction.high, SPREAD, 0, timestamp(),
        prediction_caveats(census, device),
    )  # fmt: skip


def predict_bundle(bundle: Bundle, settings: Latency) -> str:
    """Record a prediction for each package.

    Returns:
        Tables of all records, and the percentage that each kind of cost contributes to the predictions.
    """
    device = find_device(settings.device or DEVICE)
    lines = []
    for package, census in bundle_censuses(bundle).items():
        add_record(bundle.folder, predicted_record(bundle, package, census, device))
        times = predict(census, device).by_kind
        total = sum(times.values())
        shares = ", ".join(f"{kind} {times[kind] / total:.0%}" for kind in COST_KINDS if times[kind] > 0.005 * total)
        lines.append(f"{package}: {shares}; needs at least {memory_bytes(census) / 1e6:.0f} MB of memory")
    return "\n".join([latency_tables(read_records(bundle.folder)), "", *lines])


def measure_bundle(bundle: Bundle, settings: Latency) -> str:
    """Measure each package and record the result.

    Returns:
        Tables of all records and, for a measurement on this Mac, the transformer's estimated cost by compute unit.

    Raises:
        RunError: The bundle is not a Core ML bundle, or it cannot be measured here.
    """
    from pocketdit.latency.measure_apple import cost_by_compute_unit, measure

    if bundle.format != "coreml":
        raise RunError(
            f"{bundle.folder}: only Core ML bundles can be measured, and this one is {bundle.format}; to predict the "
            "latency instead, omit `measure`"
        )
    if settings.device:
        find_device(settings.device)
    for package in (TRANSFORMER, DECODER):
        if package == TRANSFORMER or bundle.has(package):
            add_record(bundle.folder, measure(bundle, package, settings))
    text = latency_tables(read_records(bundle.folder))
    if settings.measure == "mac":
        shares = cost_by_compute_unit(bundle.path_of(TRANSFORMER), settings.units)
        text += "\n\nestimated cost by compute unit: " + ", ".join(f"{unit} {s:.0%}" for unit, s in shares.items())
    return text
