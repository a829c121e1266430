"""A Core ML package's weights as palettes, without loss: what was palettised has few values, and they are its table."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elastic_dit.errors import RunError
from elastic_dit.quantization.palette import CORE_ML_BITS


def compress(package: Path, weight_threshold: int) -> list[str]:
    """Store the weights of a saved package as palettes, in place. Returns the names of the constants that became some.

    ``package``: an .mlpackage converted from a network whose weights came out of ``palettise``. Every weight with more
    than ``weight_threshold`` elements and 256 values at most becomes a table of its values with indices of as few bits
    as they need (``constexpr_lut_to_dense``): the same tensor bit for bit. All others stay as they are. No map of
    names is needed: reshaping, splitting or transposing a weight leaves its values what they are.
    Raises ``RunError`` where the package cannot be read.
    """
    import coremltools as ct
    from coremltools.optimize import coreml as optimize

    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = ct.models.MLModel(str(package), skip_model_load=True)
        except Exception as error:
            raise RunError(f"{package} is no Core ML package: {str(error).splitlines()[0]}") from error
        weights = optimize.get_weights_metadata(model, weight_threshold=weight_threshold)
        names = [name for name, weight in weights.items() if len(np.unique(weight.val)) <= 2 ** CORE_ML_BITS[-1]]
        how = optimize.OpPalettizerConfig(mode="custom", lut_function=table, weight_threshold=weight_threshold)
        config = optimize.OptimizationConfig(op_name_configs=dict.fromkeys(names, how))
        optimize.palettize_weights(model, config).save(str(package))
    return names


def table(weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """A weight's values, rising, padded with zeros to a size that Core ML has, and its flat indices in them.

    ``weight``: of 256 values at most.
    """
    values, indices = np.unique(weight, return_inverse=True)
    bits = next(bits for bits in CORE_ML_BITS if len(values) <= 2**bits)
    return np.pad(values, (0, 2**bits - len(values))), indices.flatten().astype(np.uint8)
