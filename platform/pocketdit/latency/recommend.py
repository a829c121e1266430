"""Recommend the best width and number of sampling steps within limits on latency and memory."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, assert_never

from tabulate import tabulate

from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.config.shell import command_line, operand, setting
from pocketdit.counts import counted
from pocketdit.errors import ConfigError, RunError
from pocketdit.latency.bundles import Bundle, find_bundles
from pocketdit.latency.candidates import Candidate, choose_best
from pocketdit.latency.cost_of_width import cost_of_width
from pocketdit.latency.devices import DEVICES
from pocketdit.latency.predict import SPREAD
from pocketdit.latency.quality import EvaluatedScore, Quality, quality_from_scores, quality_from_validation
from pocketdit.latency.settings import Recommend

if TYPE_CHECKING:
    from pocketdit.config.experiment import Experiment

EVALUATION = "experiments/eval/embedded.yaml"


def recommend(settings: Recommend, scores: Sequence[EvaluatedScore]) -> None:
    """Print a table of all candidates, the best candidate, and a command to run next.

    Args:
        settings: The run, the device and the limits.
        scores: Evaluation scores of all runs, oldest first.

    Raises:
        ConfigError: The device is unknown, or the run does not have the metric or support the image size.
        RunError: No quality is recorded for the run, or no candidate fits. In the latter case, the table is printed.
    """
    folder = find(settings.runs, settings.run)
    experiment = load_experiment(folder)
    quality = recorded_quality(settings, scores, folder, experiment)
    size = settings.image_size or experiment.sampling.size
    widths = sorted({point.width for point in quality.values})
    bundles = list(find_bundles(settings.exports, folder.name, size))
    costs = {width: cost_of_width(width, settings.device, bundles, experiment, size) for width in widths}
    candidates = [Candidate(point, value, costs[point.width]) for point, value in quality.values.items()]
    candidates.sort(key=lambda candidate: candidate.image_ms)
    best = choose_best(candidates, quality.higher_is_better, settings.limits)
    print(report(candidates, best, quality, settings, size))
    for width in sorted(set(experiment.backbone.widths) - set(widths)):
        command = command_line("evaluate", EVALUATION, setting("run", folder.name), f"width={width:g}")
        print(f"width {width:g} was not evaluated; evaluate it with: {command}")
    if best is None:
        fastest = candidates[0]
        raise RunError(
            f"no candidate fits: the fastest, width {fastest.point.width:g} with "
            f"{counted(fastest.point.steps, 'sampling step')}, takes {fastest.step_ms:.1f} ms per step, "
            f"{fastest.image_ms:.0f} ms per image and {fastest.cost.memory / 1e6:.1f} MB of memory"
        )
    point = best.point
    print(
        f"\nbest     width {point.width:g}, {counted(point.steps, 'sampling step')} ({point.sampler}), "
        f"guidance {point.guidance:g}"
    )
    print(f"next     {next_command(best, folder, settings, bundles, size)}")


def recorded_quality(
    settings: Recommend, scores: Sequence[EvaluatedScore], folder: RunFolder, experiment: "Experiment"
) -> Quality:
    """Return the quality from evaluations or, if the run was not evaluated, from its validation loss.

    Raises:
        ConfigError: The run was not evaluated with the requested metric.
        RunError: No quality is recorded for the run.
    """
    evaluate = command_line("evaluate", EVALUATION, setting("run", folder.name))
    quality = quality_from_scores(scores, folder.name, settings.metric)
    if quality is None and settings.metric:
        raise ConfigError(
            f"metric={settings.metric}: {settings.evaluations} does not contain an evaluation of {folder.name}; "
            f"evaluate it with: {evaluate} width=W"
        )
    quality = quality or quality_from_validation(folder.metrics, experiment.sampling)
    if quality is None:
        raise RunError(f"no quality is recorded for {folder.name}; evaluate every width with: {evaluate} width=W")
    return quality


def next_command(
    best: Candidate, folder: RunFolder, settings: Recommend, bundles: Sequence[Bundle], size: tuple[int, int]
) -> str:
    """Return the command that the user should run next: export, measure, or sample with the best candidate."""
    point = best.point
    match best.cost.source:
        case "predicted, no bundle":
            overrides = (setting("run", folder.name), f"width={point.width:g}", f"size={size[0]}x{size[1]}")
            return command_line("export", "experiments/export/coreml.yaml", *overrides)
        case "predicted":
            bundle = next(bundle for bundle in bundles if bundle.width == point.width)
            measure = ("measure=mac",) if settings.device.startswith("mac") else ("measure=iphone", "team=TEAM")
            words = (operand(bundle.folder), *measure, setting("device", settings.device))
            return f"{command_line('latency', *words)}     (on a Mac)"
        case "measured":
            sampling = ("--steps", str(point.steps), "--sampler", point.sampler, "--guidance", f"{point.guidance:g}")
            return command_line("sample", operand(folder.name), "--width", f"{point.width:g}", *sampling)
        case _:
            assert_never(best.cost.source)


def report(
    candidates: Sequence[Candidate], best: Candidate | None, quality: Quality, settings: Recommend,
    size: tuple[int, int],
) -> str:  # fmt: skip
    """Return tables of all candidates, with predicted and measured latencies in separate tables, and notes."""
    device = DEVICES.get(settings.device)
    blocks = [f"{device.title if device else settings.device}, {size[0]}x{size[1]}; {limits_text(settings)}"]
    for kind in ("predicted", "measured"):
        chosen = [candidate for candidate in candidates if candidate.cost.source.startswith(kind)]
        if chosen:
            blocks.append(f"{kind} latency\n{table(chosen, best, quality, settings)}")
    notes = [
        f"{quality.metric}: {'higher' if quality.higher_is_better else 'lower'} is better; {quality.source}",
        f'intervals: {SPREAD} for predictions; "fits" is likely or unlikely if a limit lies within the interval',
        "MB: lower bound on memory, from the weights and the largest operation",
    ]
    if any(candidate.cost.decoder == 0 for candidate in candidates):
        notes.append("ms per image does not include the decoder for widths without an exported decoder")
    if any(candidate.cost.source == "predicted, no bundle" for candidate in candidates):
        notes.append("no bundle: predicted from the description of the network, with weights in fp16")
    notes += dict.fromkeys(candidate.cost.note for candidate in candidates if candidate.cost.note)
    return "\n\n".join([*blocks, "\n".join(notes)])


def table(candidates: Sequence[Candidate], best: Candidate | None, quality: Quality, settings: Recommend) -> str:
    """Return a table with one row per candidate. An asterisk marks the best candidate."""
    headers = ["", "width", "steps", "guidance", quality.metric, "ms per step", "ms per image", "MB", "fits"]
    rows = []
    for candidate in candidates:
        point, cost, count = candidate.point, candidate.cost, candidate.evaluations_per_step
        no_bundle = " (no bundle)" if cost.source == "predicted, no bundle" else ""
        rows.append([
            "*" if candidate is best else "", f"{point.width:g}", point.steps, f"{point.guidance:g}",
            f"{candidate.quality:.4g}",
            f"{candidate.step_ms:.1f} ({count * cost.low:.1f} to {count * cost.high:.1f})",
            f"{candidate.image_ms:.0f}", f"{cost.memory / 1e6:.1f}", verdict(candidate, settings) + no_bundle,
        ])  # fmt: skip
    alignment = ("left", *["right"] * (len(headers) - 2), "left")
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=alignment)


def verdict(candidate: Candidate, settings: Recommend) -> str:
    """Return whether a candidate fits: yes or no, or likely or unlikely if a limit lies within the interval."""
    fits = candidate.fits(settings.limits)
    if candidate.is_uncertain(settings.limits):
        return "likely" if fits else "unlikely"
    return "yes" if fits else "no"


def limits_text(settings: Recommend) -> str:
    """Return the limits in the form in which the user wrote them."""
    limits = {"per step": settings.budget, "per image": settings.image, "of memory": settings.memory}
    return "limits: " + ", ".join(f"{amount} {unit}" for unit, amount in limits.items() if amount)
