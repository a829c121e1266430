"""``lightning recommend``: the best recorded way to draw a picture whose latency and memory stay within a budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pocketdit.artifacts.run_folder import RunFolder, find
from pocketdit.errors import ConfigError, RunError
from pocketdit.latency.bundles import DECODER, TRANSFORMER, Bundle, bundles_of
from pocketdit.latency.coefficients import COVERS, predict
from pocketdit.latency.cost import memory_bytes
from pocketdit.latency.devices import DEVICES, Device, find_device
from pocketdit.latency.quality import Quality, Way, from_reports, from_validation
from pocketdit.latency.records import LatencyRecord, content_hash, read
from pocketdit.latency.report import censuses, doubts
from pocketdit.latency.settings import Recommend

if TYPE_CHECKING:
    from pocketdit.config.experiment import Experiment

UNITS = "CPU_AND_NE"  # what the paper measured, and what is predicted
EVALUATE = "lightning evaluate experiments/eval/embedded.yaml"


@dataclass(frozen=True)
class Cost:
    """Of a width: milliseconds of one evaluation and of the decoder (0 where unknown), bytes of memory.

    ``low`` and ``high``: ends of the prediction's interval, or of the measurement's spread. ``source``: measured,
    predicted, or predicted without a bundle. ``batch``: of that one evaluation. ``note``: what the prediction does not
    cover, or on which units was measured.
    """

    milliseconds: float
    low: float
    high: float
    decoder: float
    memory: int
    source: str
    batch: int = 1
    note: str = ""


@dataclass(frozen=True)
class Candidate:
    way: Way
    quality: float
    cost: Cost

    @property
    def evaluations(self) -> float:
        """Of one denoising step; a graph of batch 2 takes both halves of guidance at once."""
        return self.way.evaluations / min(self.cost.batch, 2 if self.way.guidance != 1 else 1)

    @property
    def step(self) -> float:
        """Milliseconds of one denoising step."""
        return self.evaluations * self.cost.milliseconds

    @property
    def picture(self) -> float:
        """Milliseconds of all steps and the decoder."""
        return self.way.steps * self.step + self.cost.decoder

    def fits(self, limits: tuple[float, float, float]) -> bool:
        """``limits``: milliseconds of a step, of a picture, bytes."""
        return self._fits(self.cost.milliseconds, limits)

    def doubtful(self, limits: tuple[float, float, float]) -> bool:
        """Whether it fits at one end of the interval and not at the other."""
        return self._fits(self.cost.low, limits) != self._fits(self.cost.high, limits)

    def _fits(self, milliseconds: float, limits: tuple[float, float, float]) -> bool:
        step, picture, memory = limits
        one = self.evaluations * milliseconds
        return one <= step and self.way.steps * one + self.cost.decoder <= picture and self.cost.memory <= memory


def best(
    candidates: Sequence[Candidate], higher_is_better: bool, limits: tuple[float, float, float]
) -> Candidate | None:
    """Of those that fit, the one of the best quality; of equals the faster picture. None where none fits."""
    sign = 1 if higher_is_better else -1
    fitting = [candidate for candidate in candidates if candidate.fits(limits)]
    return max(fitting, key=lambda candidate: (sign * candidate.quality, -candidate.picture), default=None)


def recommend(settings: Recommend) -> None:
    """Prints the table of all candidates, the best and what to do next.

    ``RunError`` where nothing is recorded, and behind the table where nothing fits.
    """
    folder = find(settings.runs, settings.run)
    from pocketdit.artifacts.run_folder import load_experiment

    experiment = load_experiment(folder)
    quality = recorded_quality(settings, folder, experiment)
    size = settings.pixels or experiment.sampling.size
    widths = sorted({way.width for way in quality.values})
    bundles = list(bundles_of(settings.exports, folder.name, size))
    costs = {width: cost_of(settings, bundles, experiment, width, size) for width in widths}
    candidates = [Candidate(way, value, costs[way.width]) for way, value in quality.values.items()]
    candidates.sort(key=lambda candidate: candidate.picture)
    winner = best(candidates, quality.higher_is_better, settings.limits)
    print(table(candidates, winner, quality, settings, size))
    for width in sorted(set(experiment.backbone.widths) - set(widths)):
        print(f"width {width:g} is not in it: {EVALUATE} run={folder.name} width={width:g}")
    if winner is None:
        fastest = candidates[0]
        raise RunError(
            f"nothing fits: the fastest, width {fastest.way.width:g} in {fastest.way.steps} steps, takes "
            f"{fastest.step:.1f} ms a step, {fastest.picture:.0f} ms a picture and {fastest.cost.memory / 1e6:.1f} MB"
        )
    way = winner.way
    print(f"\nbest     width {way.width:g}, {way.steps} steps of {way.sampler}, guidance {way.guidance:g}")
    print(f"next     {following(winner, folder, settings, bundles, size)}")


def following(
    winner: Candidate, folder: RunFolder, settings: Recommend, bundles: Sequence[Bundle], size: tuple[int, int]
) -> str:
    """What brings the winner nearer to the device: its bundle, its measurement, its pictures."""
    way = winner.way
    match winner.cost.source:
        case "predicted, no bundle":
            shape = f"size={size[0]}x{size[1]}"
            return f"lightning export experiments/export/coreml.yaml run={folder.name} width={way.width:g} {shape}"
        case "predicted":
            bundle = next(bundle for bundle in bundles if bundle.width == way.width)
            how = "measure=mac" if settings.device.startswith("mac") else "measure=iphone team=TEAM"
            return f"lightning latency {bundle.folder} {how} device={settings.device}     (on a Mac)"
        case _:
            how = f"--steps {way.steps} --sampler {way.sampler} --guidance {way.guidance:g}"
            return f"lightning sample {folder.name} --width {way.width:g} {how}"


def recorded_quality(settings: Recommend, folder: RunFolder, experiment: "Experiment") -> Quality:
    """``RunError`` saying what to run where nothing is recorded."""
    from evaluation.report import results as report

    files = sorted(settings.evaluations.rglob("results.json"), key=lambda file: file.stat().st_mtime)
    found = from_reports([report.load(file) for file in files], folder.name, settings.metric)
    if found is None and settings.metric:
        raise ConfigError(f"metric={settings.metric}: {folder.name} has no evaluation under {settings.evaluations}")
    found = found or from_validation(folder.metrics, experiment.sampling)
    if found is None:
        raise RunError(
            f"no quality of {folder.name} is recorded; run for every width: {EVALUATE} run={folder.name} width=W"
        )
    return found


def cost_of(
    settings: Recommend, bundles: Sequence[Bundle], experiment: "Experiment", width: float, size: tuple[int, int]
) -> Cost:
    """Measured on the device where that was recorded, else predicted from the bundle, else from the description.

    ``ConfigError`` for a device that is neither known nor measured on.
    """
    bundles = [bundle for bundle in bundles if bundle.width == width]
    for bundle in bundles:
        records = [r for r in read(bundle.folder) if r.kind == "measured" and r.device == settings.device]
        if latest := newest(records, bundle, TRANSFORMER):
            decoder = newest(records, bundle, DECODER)
            return Cost(latest.milliseconds, latest.low, latest.high, decoder.milliseconds if decoder else 0.0,
                        memory_bytes(bundle.census()), "measured", bundle.batch, f"measured on {latest.units}, "
                        f"{latest.system}; the interval is its {latest.spread}")  # fmt: skip
    device = find_device(settings.device)
    if bundles:
        return from_bundle(bundles[0], device)
    return from_description(experiment, width, size, device)


def from_description(experiment: "Experiment", width: float, size: tuple[int, int], device: Device) -> Cost:
    """Predicted for what an export with its default settings would give. ``ConfigError`` for a wrong size."""
    from pocketdit.export.settings import Export
    from pocketdit.export.subject import max_tokens
    from pocketdit.latency.traced import traced

    spec = experiment.backbone
    if any(side % (8 * spec.latent_multiple) for side in size):
        raise ConfigError(f"size={size[0]}x{size[1]}: sides must be multiples of {8 * spec.latent_multiple}")
    tokens = 1 + sum(max_tokens(encoder) for encoder in experiment.text_encoders)
    sides = size[0] // 8, size[1] // 8
    try:
        census = traced(spec, width, sides, tokens, blockwise=Export.blockwise, query_chunk=Export.query_chunk)
    except ValueError as error:
        raise ConfigError(f"size={size[0]}x{size[1]}: {error}") from error
    found = predict(census, device)
    return Cost(found.milliseconds, found.low, found.high, 0.0, memory_bytes(census), "predicted, no bundle",
                note=doubts(census, device))  # fmt: skip


def from_bundle(bundle: Bundle, device: Device) -> Cost:
    """Predicted."""
    found = censuses(bundle)
    decoder = predict(found[DECODER], device).milliseconds if DECODER in found else 0.0
    census = found[TRANSFORMER]
    whole = predict(census, device)
    return Cost(whole.milliseconds, whole.low, whole.high, decoder, memory_bytes(census), "predicted", bundle.batch,
                doubts(census, device))  # fmt: skip


def newest(records: Sequence[LatencyRecord], bundle: Bundle, what: str) -> LatencyRecord | None:
    """The last record of the package as it is now; of those on the Neural Engine where there are some."""
    own = [record for record in records if record.what == what and bundle.has(what)]
    if own:
        present = content_hash(bundle.package(what))
        own = [record for record in own if record.sha256 == present]
    engine = [record for record in own if record.units == UNITS]
    return (engine or own)[-1] if own else None


def table(
    candidates: Sequence[Candidate],
    winner: Candidate | None,
    quality: Quality,
    settings: Recommend,
    size: tuple[int, int],
) -> str:
    """Every candidate, measured latencies in a table of their own."""
    device = DEVICES.get(settings.device)
    blocks = [f"{device.title if device else settings.device}, {size[0]}x{size[1]}; {budget_text(settings)}"]
    for kind in ("predicted", "measured"):
        some = [candidate for candidate in candidates if candidate.cost.source.startswith(kind)]
        if some:
            blocks.append(f"latency {kind}\n{rows(some, winner, quality, settings)}")
    blocks.append(f"{quality.metric}: {'higher' if quality.higher_is_better else 'lower'} is better; {quality.source}")
    notes = [f"in brackets: {COVERS} where predicted; perhaps: it fits at one end of it alone"]
    notes += ["memory: weights and the largest operation, a lower bound"]
    if any(candidate.cost.decoder == 0 for candidate in candidates):
        notes.append("a picture's time is without its decoder where no bundle has one")
    if any(candidate.cost.source.endswith("no bundle") for candidate in candidates):
        notes.append("(no bundle): from the network's description, weights in fp16")
    notes += dict.fromkeys(candidate.cost.note for candidate in candidates if candidate.cost.note)
    return "\n\n".join([*blocks[:-1], "\n".join([blocks[-1], *notes])])


def rows(candidates: Sequence[Candidate], winner: Candidate | None, quality: Quality, settings: Recommend) -> str:
    headings = ("", "width", "steps", "guidance", quality.metric, "ms a step", "ms a picture", "MB", "fits")
    lines = [headings]
    for candidate in candidates:
        way, cost = candidate.way, candidate.cost
        bundle = " (no bundle)" if cost.source.endswith("no bundle") else ""
        lines.append((
            "*" if candidate is winner else "", f"{way.width:g}", str(way.steps), f"{way.guidance:g}",
            f"{candidate.quality:.4g}",
            f"{candidate.step:.1f} ({candidate.evaluations * cost.low:.1f} to {candidate.evaluations * cost.high:.1f})",
            f"{candidate.picture:.0f}", f"{cost.memory / 1e6:.1f}", verdict(candidate, settings) + bundle,
        ))  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i in (0, len(widths) - 1) else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def verdict(candidate: Candidate, settings: Recommend) -> str:
    fits = "yes" if candidate.fits(settings.limits) else "no"
    return f"perhaps {fits}" if candidate.doubtful(settings.limits) else fits


def budget_text(settings: Recommend) -> str:
    given = (("a step", settings.budget), ("a picture", settings.picture), ("memory", settings.memory))
    return "budget " + ", ".join(f"{what} {amount}" for what, amount in given if amount)
