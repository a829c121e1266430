"""Recommend the best width, number of sampling steps, bits per weight and format within latency and memory limits."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.config.errors import did_you_mean_or_all
from pocketdit.config.shell import command_line, operand, setting
from pocketdit.counts import counted
from pocketdit.errors import ConfigError, RunError
from pocketdit.latency.bundles import Bundle, find_bundles
from pocketdit.latency.candidates import Candidate, choose_best
from pocketdit.latency.cost_of_point import cost_of_point, matching_bundles
from pocketdit.latency.deployments import runs_to_deploy
from pocketdit.latency.devices import DEVICES
from pocketdit.latency.formats import FORMATS, FP16_BITS, Format, formats_for
from pocketdit.latency.quality import (
    EvaluatedScore,
    OperatingPoint,
    Quality,
    quality_from_scores,
    quality_from_validation,
)
from pocketdit.latency.recommend_report import report
from pocketdit.latency.settings import Recommend

if TYPE_CHECKING:
    from pocketdit.config.experiment import Experiment

EVALUATION = "experiments/eval/embedded.yaml"
QUANTIZATION = "experiments/quantize_finetune.yaml"
PALETTE_BITS = 4.3  # bits per weight of candidates that have not been quantized yet (supplement C)


def recommend(settings: Recommend, scores: Sequence[EvaluatedScore]) -> None:
    """Print a table of all candidates, the best candidate, and a command to run next.

    Args:
        settings: The run, the device and the limits.
        scores: Evaluation scores of all runs, oldest first.

    Raises:
        ConfigError: The device or the format is unknown, the run was not evaluated with the metric, or the run does not
            support the image size.
        RunError: No quality is recorded for the run, or no candidate fits. In the latter case, the table is printed
            first.
    """
    folder = find(settings.runs, settings.run)
    experiment = load_experiment(folder)
    runs = runs_to_deploy(settings.runs, folder)
    quality = recorded_quality(settings, scores, folder, experiment, runs)
    size = settings.image_size or experiment.sampling.size
    bundles = list(find_bundles(settings.exports, set(runs), size))
    points: dict[OperatingPoint, float | None] = {**quality.values}
    targets = formats_of(settings)
    palettes = any(target.stores_palettes for target in targets)
    points |= dict.fromkeys(unevaluated_points(experiment, folder.name, runs, quality, palettes))
    candidates = [
        Candidate(point, target, value, cost_of_point(point, target, settings.device, bundles, experiment, size))
        for point, value in points.items()
        for target in targets
    ]
    candidates.sort(key=lambda candidate: candidate.image_ms)
    best = choose_best(candidates, quality.higher_is_better, settings.limits)
    print(report(candidates, best, quality, settings, size))
    for hint in hints(candidates, folder):
        print(hint)
    if best is None:
        fastest = next(candidate for candidate in candidates if candidate.quality is not None)
        raise RunError(
            f"no candidate fits: the fastest candidate with a recorded quality (width {fastest.point.width:g}, "
            f"{counted(fastest.point.steps, 'sampling step')}) takes {fastest.step_ms:.1f} ms per step and "
            f"{fastest.image_ms:.0f} ms per image, and needs {fastest.cost.memory / 1e6:.1f} MB of memory"
        )
    point = best.point
    print(
        f"\nbest     width {point.width:g}, {counted(point.steps, 'sampling step')} ({point.sampler}), "
        f"guidance {point.guidance:g}, {point.bits:.3g} bits, {best.target.title}"
    )
    print(f"next     {next_command(best, settings, bundles, size)}")


def formats_of(settings: Recommend) -> tuple[Format, ...]:
    """Return the formats to compare: the requested format or, by default, all formats that run on the device.

    Raises:
        ConfigError: The requested format is unknown or does not run on the device.
    """
    device = DEVICES.get(settings.device)
    names = device.formats if device else tuple(item.name for item in FORMATS)
    if settings.format and settings.format not in names:
        raise ConfigError(
            f"format={settings.format}: not supported by device={settings.device}"
            f"{did_you_mean_or_all(settings.format, names)}"
        )
    return formats_for((settings.format,) if settings.format else names)


def recorded_quality(
    settings: Recommend,
    scores: Sequence[EvaluatedScore],
    folder: RunFolder,
    experiment: "Experiment",
    runs: Mapping[str, float],
) -> Quality:
    """Return the quality from evaluations or, if no run was evaluated, from the validation loss.

    Raises:
        ConfigError: The runs were not evaluated with the requested metric.
        RunError: No quality is recorded for the run.
    """
    evaluate = command_line("evaluate", EVALUATION, setting("run", folder.name))
    quality = quality_from_scores(scores, runs, settings.metric)
    if quality is None and settings.metric:
        raise ConfigError(
            f"metric={settings.metric}: {settings.evaluations} does not contain an evaluation of {folder.name}; "
            f"evaluate it with: {evaluate} width=W"
        )
    quality = quality or quality_from_validation(folder.metrics, folder.name, runs[folder.name], experiment.sampling)
    if quality is None:
        raise RunError(f"no quality is recorded for {folder.name}; evaluate every width with: {evaluate} width=W")
    return quality


def unevaluated_points(
    experiment: "Experiment", run: str, runs: Mapping[str, float], quality: Quality, palettes: bool
) -> list[OperatingPoint]:
    """Return an operating point with the run's sampling settings for each network without a recorded quality.

    All widths of the run are considered. If ``palettes`` is set, all widths with palettized weights are considered too,
    even if they have not been quantized yet.
    """
    sampling = experiment.sampling
    recorded = {(point.width, point.bits < FP16_BITS) for point in quality.values}
    return [
        OperatingPoint(
            run if bits == runs[run] else "", bits, width, sampling.steps, sampling.sampler, sampling.guidance
        )
        for width in experiment.backbone.widths
        for bits in dict.fromkeys((runs[run], PALETTE_BITS if palettes and runs[run] == FP16_BITS else runs[run]))
        if (width, bits < FP16_BITS) not in recorded
    ]  # fmt: skip


def hints(candidates: Sequence[Candidate], folder: RunFolder) -> list[str]:
    """Return one line per network without a recorded quality, with the command that evaluates or quantizes it."""
    lines = []
    for point in dict.fromkeys(candidate.point for candidate in candidates if candidate.quality is None):
        if point.run:
            command = command_line("evaluate", EVALUATION, setting("run", point.run), f"width={point.width:g}")
            lines.append(f"width {point.width:g} was not evaluated; evaluate it with: {command}")
        else:
            words = (f"backbone.widths=[{point.width:g}]", setting("parents.start", folder.name))
            command = command_line("run", QUANTIZATION, *words)
            lines.append(f"width {point.width:g} was neither quantized nor evaluated; quantize it with: {command}")
    return sorted(lines)


def next_command(best: Candidate, settings: Recommend, bundles: Sequence[Bundle], size: tuple[int, int]) -> str:
    """Return the command to run next. It exports, verifies or measures the best candidate, or samples with it."""
    point, target = best.point, best.target
    exported = matching_bundles(point, target, bundles)
    if best.cost.source == "measured":
        sampling = ("--steps", str(point.steps), "--sampler", point.sampler, "--guidance", f"{point.guidance:g}")
        return command_line("sample", operand(point.run), "--width", f"{point.width:g}", *sampling)
    if not exported:
        overrides = (setting("run", point.run), f"width={point.width:g}", f"size={size[0]}x{size[1]}")
        return command_line("export", f"experiments/export/{target.name}.yaml", *overrides)
    if not target.measured_by:
        return command_line("verify", operand(exported[0].folder))
    measure = ("measure=mac",) if settings.device.startswith("mac") else ("measure=iphone", "team=TEAM")
    words = (operand(exported[0].folder), *measure, setting("device", settings.device))
    return f"{command_line(target.measured_by, *words)}     (on a Mac)"
