"""What an application must know of a bundle: names, shapes, the list of times. Written as manifest.json."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pocketdit.config.typed import plain
from pocketdit.diffusion.samplers import uniform_times
from pocketdit.export.census import Census
from pocketdit.export.graphs import DECODER
from pocketdit.export.package import Package, TensorType
from pocketdit.export.settings import Export
from pocketdit.export.subject import RANDOM, Subject
from pocketdit.export.verify import Check
from pocketdit.tracking.git import revision

FORMAT = 1
_LIBRARIES = ("pocketdit", "torch", "coremltools", "numpy")


def manifest(
    settings: Export,
    subject: Subject,
    packages: Mapping[str, Package],
    censuses: Mapping[str, Census],
    checks: Iterable[Check],
) -> dict[str, Any]:
    """JSON-able; what an application does with it stands in README.md, under On device."""
    experiment, spec = subject.experiment, subject.network.spec
    sampling = experiment.sampling
    height, width = subject.size
    return {
        "format": FORMAT,
        "name": subject.name,
        "weights": {
            "run": subject.run or None,
            "sha256": None if subject.weights == RANDOM else subject.weights,
            "note": RANDOM if subject.weights == RANDOM else "",
        },
        "network": {
            "width": settings.width,
            "hidden": spec.width,
            "parameters": sum(value.numel() for value in subject.network.parameters()),
        },
        "image": {"height": 8 * height, "width": 8 * width},
        "latents": {"channels": spec.latent_channels, "height": height, "width": width},
        "packages": {name: _package(packages[name], censuses[name], settings) for name in packages},
        "sampling": {
            "sampler": sampling.sampler,
            "steps": sampling.steps,
            "times": uniform_times(sampling.steps, sampling.time_shift),
            "time_shift": sampling.time_shift,
            "guidance": sampling.guidance,
        },
        "text": {
            "encoders": [
                {"class_path": encoder.class_path, "init_args": encoder.init_args, "tokens": tokens, "width": size}
                for encoder, tokens, size in zip(
                    experiment.text_encoders, subject.text_lengths, spec.text_inputs, strict=True
                )
            ],
        },
        "autoencoder": plain(experiment.autoencoder),
        "decoder": subject.decoder_run or ("autoencoder" if DECODER in packages else None),
        "revision": revision(Path(__file__).parent),
        "versions": {name: version(name) for name in _LIBRARIES},
        "verification": [
            # JSON has no infinity: null is an output that equals the reference.
            {"output": c.what, "max_error": c.max_error, "snr_db": c.snr if math.isfinite(c.snr) else None}
            for c in checks
        ],
        # The latest run today may not be so when the bundle is verified.
        "settings": plain(replace(settings, run=subject.run or None, decoder=subject.decoder_run or None)),
    }


def _package(package: Package, census: Census, settings: Export) -> dict[str, Any]:
    types = {name: declared for operation in package.operations for name, declared in operation.outputs.items()}
    matrices = [o for o in census.operations if o.kind in ("conv", "conv_transpose")]
    weights = sum(8 * o.weight_bytes / o.weight_bits for o in matrices)
    bits = sum(8 * o.weight_bytes for o in matrices)
    return {
        "file": package.path.name,
        "precision": settings.precision,
        "target": settings.target,
        "inputs": {name: _tensor(declared) for name, declared in package.inputs.items()},
        "outputs": {name: _tensor(types[name]) for name in package.outputs},
        "operations": census.count,
        "weight_bytes": census.stored_bytes,
        "bits_per_weight": round(bits / weights, 4),
        "palettised_weights": sum(o.kind == "constexpr_lut_to_dense" for o in package.operations),
    }


def _tensor(declared: TensorType) -> dict[str, Any]:
    return {"shape": list(declared.shape), "dtype": declared.dtype.lower()}
