"""``lightning latency``: a bundle's records, predicted or measured, as the tables that the command prints."""

from pocketdit.export.census import Census
from pocketdit.latency.bundles import CENSUS, DECODER, TRANSFORMER, Bundle
from pocketdit.latency.coefficients import COVERS, predict
from pocketdit.latency.cost import KINDS, memory_bytes
from pocketdit.latency.devices import Device, find_device
from pocketdit.latency.ladder import DEVICE, SMALLEST
from pocketdit.latency.records import LatencyRecord, add, content_hash, now, read, tables
from pocketdit.latency.settings import Latency

UNCALIBRATED = "uncalibrated: scaled from the iPhone 16 Pro Max by published figures, the interval does not cover that"
EXTRAPOLATED = "far smaller than the graphs that the model was fitted to: dispatch and what else is fixed may be more"


def doubts(census: Census, device: Device) -> str:
    """What the interval of a prediction does not cover; empty where it covers what is known."""
    found = [] if device.calibrated else [UNCALIBRATED]
    if census.flops < SMALLEST / 10:
        found.append(EXTRAPOLATED)
    return "; ".join(found)


def censuses(bundle: Bundle) -> dict[str, Census]:
    """Of the transformer, and of the decoder where the bundle has one."""
    found = {TRANSFORMER: bundle.census()}
    if bundle.has(DECODER):
        # Slow, and noisy on Linux: only for a package that is there.
        from pocketdit.export import census
        from pocketdit.export.package import Package

        found[DECODER] = census.take(Package(bundle.package(DECODER)))
    return found


def predicted(bundle: Bundle, what: str, census: Census, device: Device) -> LatencyRecord:
    """One evaluation on the Neural Engine; the hash is of the census's file, or of the package."""
    found = predict(census, device)
    source = bundle.folder / CENSUS if what == TRANSFORMER else bundle.package(what)
    return LatencyRecord(
        what, content_hash(source), "predicted", device.name, "", "CPU_AND_NE", bundle.batch_of(what), bundle.size_text,
        found.milliseconds, found.low, found.high, COVERS, 0, now(), doubts(census, device),
    )  # fmt: skip


def predict_bundle(bundle: Bundle, settings: Latency) -> str:
    """Records a prediction for every package and returns all records' tables, with where the time goes."""
    device = find_device(settings.device or DEVICE)
    lines = []
    for what, census in censuses(bundle).items():
        add(bundle.folder, predicted(bundle, what, census, device))
        times = predict(census, device).by_kind
        shares = ", ".join(f"{kind} {100 * times[kind] / sum(times.values()):.0f} %" for kind in KINDS
                           if times[kind] > 0.005 * sum(times.values()))  # fmt: skip
        lines.append(f"{what}: {shares}; at least {memory_bytes(census) / 1e6:.0f} MB of memory")
    return "\n".join([tables(read(bundle.folder)), "", *lines])


def measure_bundle(bundle: Bundle, settings: Latency) -> str:
    """Measures every package and returns all records' tables, on a Mac with where the transformer runs."""
    from pocketdit.latency.measure_apple import compute_plan, measure

    if settings.device:
        find_device(settings.device)
    for what in (TRANSFORMER, DECODER):
        if what == TRANSFORMER or bundle.has(what):
            add(bundle.folder, measure(bundle, what, settings))
    text = tables(read(bundle.folder))
    if settings.measure == "mac":
        shares = compute_plan(bundle.package(TRANSFORMER), settings.units)
        text += "\n\n" + ", ".join(f"{unit} {share:.0%}" for unit, share in shares.items()) + " of the estimated cost"
    return text
