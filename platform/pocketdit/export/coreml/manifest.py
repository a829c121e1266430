"""The manifest's entries for Core ML packages."""

from typing import Any

from pocketdit.export.common.census import Census
from pocketdit.export.coreml.package import Package, TensorType
from pocketdit.export.coreml.settings import CoreMLExport


def package_entry(package: Package, census: Census, settings: CoreMLExport) -> dict[str, Any]:
    """Return the manifest's entry for a package."""
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
        "bits_per_weight": round(bits / weights, 4) if weights else None,
        "palettized_weights": sum(o.kind == "constexpr_lut_to_dense" for o in package.operations),
    }


def _tensor_entry(declared: TensorType) -> dict[str, Any]:
    return {"shape": list(declared.shape), "dtype": declared.dtype.lower()}
