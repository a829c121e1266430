"""``manifest.json``, which contains everything that an app must know, such as names, shapes and sampling times.

All targets write the same manifest, whose JSON schema is ``export/app/manifest.schema.json``. docs/apps.md describes
how an app uses it.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pocketdit.backbones.spec import FULL_WIDTH
from pocketdit.config.experiment import Experiment, Sampling
from pocketdit.config.importing import import_class
from pocketdit.config.typed import plain
from pocketdit.diffusion import portable_noise
from pocketdit.diffusion.samplers import uniform_times
from pocketdit.export.common.bundle_files import DECODER, FORMAT, LATENCY, MANIFEST
from pocketdit.export.common.comparison import Comparison
from pocketdit.export.common.settings import BaseExport
from pocketdit.export.common.subject import RANDOM, Subject
from pocketdit.export.common.text_graphs import ExportedText, text_entries
from pocketdit.files import sha256_of
from pocketdit.stages.step_distill import StepDistill
from pocketdit.tracking.git import revision


def build_manifest(
    kind: str,
    settings: BaseExport,
    subject: Subject,
    packages: Mapping[str, dict[str, Any]],
    texts: Sequence[ExportedText | None],
    comparisons: Iterable[Comparison],
    libraries: Sequence[str],
) -> dict[str, Any]:
    """Return the manifest as JSON values, without the checksums of the files (see ``write_manifest``).

    Args:
        kind: Name of the target.
        settings: Settings of the export.
        subject: The exported network.
        packages: An entry for each package: its file, its inputs and outputs, and target-specific information.
        texts: The text encoders.
        comparisons: Results of the verification.
        libraries: Python packages whose versions are recorded.
    """
    experiment, spec = subject.experiment, subject.network.spec
    decoder_run = subject.decoder.run if subject.decoder else ""
    height, width = subject.latent_size
    return {
        "format": FORMAT,
        "kind": kind,
        "name": subject.name,
        "weights": weights_entry(subject),
        "network": {
            "width": settings.width,
            "hidden": spec.hidden_size(FULL_WIDTH),
            "parameters": sum(value.numel() for value in subject.network.parameters()),
        },
        "image": image_entry(subject),
        "latents": {"channels": spec.latent_channels, "height": height, "width": width},
        "packages": dict(packages),
        "sampling": sampling_entry(experiment),
        "noise": noise_entry((spec.latent_channels, height, width)),
        "text": {"encoders": text_entries(subject, texts)},
        "autoencoder": plain(experiment.autoencoder),
        "decoder": decoder_run or ("autoencoder" if DECODER in packages else None),
        **software_entries(*libraries),
        "verification": [
            # JSON does not support infinity. An SNR of null means that the output equals the reference.
            {"output": c.output, "max_error": c.max_error, "snr_db": c.snr if math.isfinite(c.snr) else None}
            for c in comparisons
        ],
        # Runs are stored by their full names, because a short name may refer to a different run later.
        "settings": plain(replace(settings, run=subject.run or None, decoder=decoder_run or None)),
    }


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest with the sizes and checksums of all other files in the bundle, which must already exist."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in paths
        if path.name not in (MANIFEST, LATENCY) and path.relative_to(folder).parts[0] != "scratch"
    }
    text = json.dumps({**content, "files": files}, indent=2, default=str)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def weights_entry(subject: Subject) -> dict[str, Any]:
    """Return the run and the hash of the weights, or a note that the weights are random."""
    random = subject.weights == RANDOM
    return {
        "run": subject.run or None,
        "sha256": None if random else subject.weights,
        "note": RANDOM if random else "",
    }


def image_entry(subject: Subject) -> dict[str, int]:
    """Return the image height and width in pixels."""
    height, width = subject.image_size
    return {"height": height, "width": width}


def sampling_entry(experiment: Experiment) -> dict[str, Any]:
    """Return the sampling settings, with the times from 1 to 0 and whether the network works only with these times."""
    sampling: Sampling = experiment.sampling
    return {
        "sampler": sampling.sampler,
        "steps": sampling.steps,
        "times": uniform_times(sampling.steps, sampling.time_shift),
        "time_shift": sampling.time_shift,
        "guidance": sampling.guidance,
        "fixed_steps": has_fixed_steps(experiment),
    }


def has_fixed_steps(experiment: Experiment) -> bool:
    """Return whether the network was trained only for the times at which it samples."""
    is_distilled = issubclass(import_class(experiment.stage.class_path), StepDistill)
    return is_distilled or bool(experiment.stage.init_args.get("steps"))


def noise_entry(shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the name of the noise generator, its test vectors, and the SHA-256 of the noise for seed 0."""
    noise = portable_noise.portable_noise(0, shape)
    return {
        "generator": portable_noise.NAME,
        "vectors": portable_noise.known_answers(),
        "sha256_of_seed_0": hashlib.sha256(noise.astype("<f4").tobytes()).hexdigest(),
    }


def software_entries(*libraries: str) -> dict[str, Any]:
    """Return the Git revision of this project, and the versions of the project and its libraries."""
    return {
        "revision": revision(Path(__file__).parent),
        "versions": {name: version(name) for name in ("pocketdit", "torch", *libraries)},
    }
