"""The manifest's entries for Core AI packages."""

from typing import Any

from pocketdit.export.common.census import Census
from pocketdit.export.coreai.package import Package, TensorType
from pocketdit.export.coreai.settings import CoreAIExport

_MATRIX_PRODUCTS = ("conv", "conv_transpose", "matmul")


def package_entry(package: Package, census: Census, settings: CoreAIExport) -> dict[str, Any]:
    """Return the manifest's entry for a package."""
    matrices = [o for o in census.operations if o.kind in _MATRIX_PRODUCTS and o.weight_bytes]
    weights = sum(8 * o.weight_bytes / o.weight_bits for o in matrices)
    bits = sum(8 * o.weight_bytes for o in matrices)
    return {
        "file": package.path.name,
        "precision": settings.precision,
        "target": "iOS27",
        "inputs": {name: _tensor_entry(declared) for name, declared in package.inputs.items()},
        "outputs": {name: _tensor_entry(declared) for name, declared in package.outputs.items()},
        "operations": census.count,
        "composites": sum(bool(o.body) for o in package.operations),
        "weight_bytes": census.stored_bytes,
        "bits_per_weight": round(bits / weights, 4) if weights else None,
        "palettized_weights": sum(o.kind == "lut_to_dense" for o in package.operations),
    }


def _tensor_entry(declared: TensorType) -> dict[str, Any]:
    return {"shape": list(declared.shape), "dtype": declared.dtype.lower()}
