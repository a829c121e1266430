"""``lightning export`` to LiteRT: a folder with one .tflite file, what an application must know, and latency."""

import json
import math
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketdit.config.typed import plain
from pocketdit.diffusion.samplers import uniform_times
from pocketdit.errors import RunError
from pocketdit.export.folder import MANIFEST, written_whole
from pocketdit.export.subject import RANDOM, Subject, load_subject
from pocketdit.latency.records import add, tables
from pocketdit.litert.convert import Converted, convert
from pocketdit.litert.interpreter import LiteRTModel, relative_error, require_litert, signal_to_noise
from pocketdit.litert.network import VELOCITY, NamedInputs, example_inputs
from pocketdit.litert.settings import LiteRTExport
from pocketdit.litert.timing import FILE, on_android, on_this_cpu
from pocketdit.tracking.git import revision

_LIBRARIES = ("pocketdit", "torch", "litert-torch", "ai-edge-litert")


def export(settings: LiteRTExport) -> Path:
    """Write ``out/<name>/`` with the file and its manifest, and time it as ``settings.litert`` says.

    Raises ``ConfigError`` for settings that the run's network does not take and without LiteRT, ``RunError`` where the
    network cannot be converted or differs (no folder is left then) or the phone cannot be reached (the folder is left).
    """
    require_litert()
    subject = load_subject(settings.source())
    folder = settings.out / subject.name
    inputs = {time: example_inputs(subject.network.spec, subject.size, subject.text_lengths, time, settings.seed)
              for time in settings.times}  # fmt: skip
    depth = sum(level.depth for level in subject.network.spec.levels)
    print(f"converting {depth} transformer blocks, about {8 * depth} s of one core", flush=True)
    with written_whole(folder) as temporary:
        done = convert_checked(settings, subject, inputs, temporary / FILE)
        content = manifest(settings, subject, LiteRTModel(temporary / FILE), done)
        (temporary / MANIFEST).write_text(json.dumps(content, indent=2, default=str) + "\n")
    measure(settings, folder, f"{8 * subject.size[0]}x{8 * subject.size[1]}", inputs[settings.times[0]])
    return folder


def convert_checked(
    settings: LiteRTExport, subject: Subject, inputs: dict[float, dict[str, Tensor]], path: Path
) -> Converted:
    """Convert at the first of ``times`` and check at all of them."""
    module = NamedInputs(subject.network)
    half = settings.precision == "float16"
    max_error, min_snr = (math.inf, settings.min_snr) if half else (settings.max_error, -math.inf)
    first, *others = settings.times
    done = convert(module, inputs[first], path, settings.precision, max_error, min_snr)
    print(f"converted in {done.seconds:.0f} s: {done.operations} operations, {done.bytes / 1e6:.1f} MB")
    print(check_line(first, done.error, done.snr), flush=True)
    model = LiteRTModel(path, settings.litert.threads)
    for time in others:
        found = model(inputs[time])[VELOCITY]
        with torch.no_grad():
            expected = module(**inputs[time])[VELOCITY]
        error, snr = relative_error(found, expected), signal_to_noise(found, expected)
        print(check_line(time, error, snr), flush=True)
        if not (error <= max_error and snr >= min_snr):
            raise RunError(
                f"{FILE} differs from the network at time {time:g} by {error:.1e} of the largest value, {snr:.1f} dB "
                f"(allowed {max_error:g}, {min_snr:g} dB); nothing was written"
            )
    return done


def check_line(time: float, error: float, snr: float) -> str:
    return f"{f'velocity at time {time:g}':28} max error {error:.2e}   SNR {snr:.1f} dB"


def measure(settings: LiteRTExport, folder: Path, size: str, inputs: dict[str, Tensor]) -> None:
    """Time the exported file where ``settings.litert`` says, and keep the records beside it."""
    how = settings.litert
    records = []
    if how.passes:
        records.append(on_this_cpu(folder / FILE, inputs, size, how.threads, how.passes))
        add(folder, records[-1])
    if how.benchmark is not None:
        passes = max(1, how.passes)
        records.append(on_android(folder / FILE, how.benchmark, size, how.threads, passes, how.gpu, how.serial))
        add(folder, records[-1])
    if records:
        print(f"\n{tables(records)}")


def manifest(settings: LiteRTExport, subject: Subject, model: LiteRTModel, done: Converted) -> dict[str, Any]:
    """JSON-able: names and shapes of the file's signature, the steps of the sampler, the text encoders, the origin."""
    sampling = subject.experiment.sampling
    random = subject.weights == RANDOM
    return {
        "name": subject.name,
        "file": FILE,
        "weights": {"run": subject.run or None, "sha256": None if random else subject.weights,
                    "note": RANDOM if random else ""},
        "network": {"width": settings.width, "hidden": subject.network.spec.width, "precision": settings.precision},
        "image": {"height": 8 * subject.size[0], "width": 8 * subject.size[1]},
        "inputs": model.inputs,
        "outputs": {VELOCITY: model.inputs["latents"]},
        "sampling": {
            "sampler": sampling.sampler,
            "steps": sampling.steps,
            "times": uniform_times(sampling.steps, sampling.time_shift),
            "guidance": sampling.guidance,
        },
        "text_encoders": plain(subject.experiment.text_encoders),
        "autoencoder": plain(subject.experiment.autoencoder),
        "conversion": {k: v for k, v in asdict(done).items() if k != "path"},
        "revision": revision(Path(__file__).parent),
        "versions": {name: version(name) for name in _LIBRARIES},
        "settings": plain(settings),
    }  # fmt: skip
