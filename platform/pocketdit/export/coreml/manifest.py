"""``manifest.json`` of a Core ML bundle, which tells an app what it needs, such as names, shapes and sampling times."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pocketdit.config.typed import plain
from pocketdit.export.common.bundle_files import DECODER, FORMAT
from pocketdit.export.common.census import Census
from pocketdit.export.common.comparison import Comparison
from pocketdit.export.common.manifest import image_entry, sampling_entry, software_entries, weights_entry
from pocketdit.export.common.subject import Subject
from pocketdit.export.coreml.package import Package, TensorType
from pocketdit.export.coreml.settings import CoreMLExport


def build_manifest(
    settings: CoreMLExport,
    subject: Subject,
    packages: Mapping[str, Package],
    censuses: Mapping[str, Census],
    comparisons: Iterable[Comparison],
) -> dict[str, Any]:
    """Return the manifest as JSON values. docs/on_device.md describes how an app uses it."""
    experiment, spec = subject.experiment, subject.network.spec
    decoder_run = subject.decoder.run if subject.decoder else ""
    height, width = subject.latent_size
    return {
        "format": FORMAT,
        "name": subject.name,
        "weights": weights_entry(subject),
        "network": {
            "width": settings.width,
            "hidden": spec.width,
            "parameters": sum(value.numel() for value in subject.network.parameters()),
        },
        "image": image_entry(subject),
        "latents": {"channels": spec.latent_channels, "height": height, "width": width},
        "packages": {name: _package_entry(packages[name], censuses[name], settings) for name in packages},
        "sampling": sampling_entry(experiment.sampling) | {"time_shift": experiment.sampling.time_shift},
        "text": {
            "encoders": [
                {"class_path": encoder.class_path, "init_args": encoder.init_args, "tokens": tokens, "width": size}
                for encoder, tokens, size in zip(
                    experiment.text_encoders, subject.text_lengths, spec.text_inputs, strict=True
                )
            ],
        },
        "autoencoder": plain(experiment.autoencoder),
        "decoder": decoder_run or ("autoencoder" if DECODER in packages else None),
        **software_entries("coremltools", "numpy"),
        "verification": [
            # JSON does not support infinity. An SNR of null means that the output equals the reference.
            {"output": c.output, "max_error": c.max_error, "snr_db": c.snr if math.isfinite(c.snr) else None}
            for c in comparisons
        ],
        # Runs are stored by their full names, because a short name may refer to a different run later.
        "settings": plain(replace(settings, run=subject.run or None, decoder=decoder_run or None)),
    }


def _package_entry(package: Package, census: Census, settings: CoreMLExport) -> dict[str, Any]:
    types = {name: declared for operation in package.operations for name, declared in operation.outputs.items()}
    matrices = [o for o in census.operations if o.kind in ("conv", "conv_transpose")]
    weights = sum(8 * o.weight_bytes / o.weight_bits for o in matrices)
    bits = sum(8 * o.weight_bytes for o in matrices)
    return {
        "file": package.path.name,
        "precision": settings.precision,
        "target": settings.target,
        "inputs": {name: _tensor_entry(declared) for name, declared in package.inputs.items()},
        "outputs": {name: _tensor_entry(types[name]) for name in package.outputs},
        "operations": census.count,
        "weight_bytes": census.stored_bytes,
        "bits_per_weight": round(bits / weights, 4),
        "palettized_weights": sum(o.kind == "constexpr_lut_to_dense" for o in package.operations),
    }


def _tensor_entry(declared: TensorType) -> dict[str, Any]:
    return {"shape": list(declared.shape), "dtype": declared.dtype.lower()}
