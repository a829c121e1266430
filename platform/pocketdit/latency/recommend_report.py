"""The tables that ``lightning recommend`` prints."""

from collections.abc import Sequence

from tabulate import tabulate

from pocketdit.latency.candidates import Candidate, reason_against
from pocketdit.latency.devices import DEVICES
from pocketdit.latency.predict import SPREAD
from pocketdit.latency.quality import Quality
from pocketdit.latency.settings import Recommend


def report(
    candidates: Sequence[Candidate], best: Candidate | None, quality: Quality, settings: Recommend,
    size: tuple[int, int],
) -> str:  # fmt: skip
    """Return separate tables for the candidates with predicted and measured latencies, followed by notes."""
    device = DEVICES.get(settings.device)
    blocks = [f"{device.title if device else settings.device}, {size[0]}x{size[1]}; {limits_text(settings)}"]
    for kind in ("predicted", "measured"):
        chosen = [candidate for candidate in candidates if candidate.cost.source.startswith(kind)]
        if chosen:
            blocks.append(f"{kind} latency\n{table(chosen, best, quality, settings)}")
    notes = [
        f"{quality.metric}: {'higher' if quality.higher_is_better else 'lower'} is better; {quality.source}",
        f'intervals: {SPREAD} for predictions; "fits" says likely or unlikely if a limit lies within the interval',
        "MB: lower bound on memory, from the weights and the largest operation",
    ]
    if any(candidate.cost.decoder == 0 for candidate in candidates):
        notes.append("ms per image does not include the decoder for candidates without an exported decoder")
    if any(candidate.cost.source == "predicted, no bundle" for candidate in candidates):
        notes.append("no bundle: predicted from a bundle in another format or from the description of the network")
    notes += dict.fromkeys(candidate.target.note for candidate in candidates if candidate.target.note)
    notes += dict.fromkeys(candidate.cost.note for candidate in candidates if candidate.cost.note)
    return "\n\n".join([*blocks, "\n".join(notes)])


def table(candidates: Sequence[Candidate], best: Candidate | None, quality: Quality, settings: Recommend) -> str:
    """Return a table with one row per candidate. An asterisk marks the best candidate."""
    headers = [
        "", "format", "width", "bits", "steps", "guidance", quality.metric, "ms per step", "ms per image", "MB", "fits",
        "why",
    ]  # fmt: skip
    rows = []
    for candidate in candidates:
        point, cost, count = candidate.point, candidate.cost, candidate.evaluations_per_step
        no_bundle = " (no bundle)" if cost.source == "predicted, no bundle" else ""
        rows.append([
            "*" if candidate is best else "", candidate.target.title, f"{point.width:g}", f"{point.bits:.3g}",
            point.steps, f"{point.guidance:g}", "" if candidate.quality is None else f"{candidate.quality:.4g}",
            f"{candidate.step_ms:.1f} ({count * cost.low:.1f} to {count * cost.high:.1f})",
            f"{candidate.image_ms:.0f}", f"{cost.memory / 1e6:.1f}", verdict(candidate, settings) + no_bundle,
            reason_against(candidate, best, quality.metric, settings.limits),
        ])  # fmt: skip
    alignment = ("left", "left", *["right"] * (len(headers) - 4), "left", "left")
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
