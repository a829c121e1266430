"""The runs that ``lightning recommend`` compares, with their bits per weight."""

import json
from collections.abc import Mapping
from pathlib import Path

from pocketdit.artifacts.run_folder import LATEST, RunFolder, load_experiment
from pocketdit.errors import ConfigError, RunError
from pocketdit.latency.formats import FP16_BITS

QUANTIZATION = "quantization.json"


def bits_of(folder: RunFolder) -> float:
    """Return the average number of bits per weight of a run.

    Raises:
        RunError: The report of a quantized run cannot be read.
    """
    file = folder.path / QUANTIZATION
    if not file.is_file():
        return FP16_BITS
    try:
        return float(json.loads(file.read_text())["average_bits"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file}: cannot be read ({error!r}); copy the run folder again") from error


def runs_to_deploy(runs: Path, folder: RunFolder) -> Mapping[str, float]:
    """Map the full names of a run and of all runs that quantize it to their bits per weight.

    Quantized runs that cannot be read are left out.
    """
    found = {folder.name: bits_of(folder)}
    for report in sorted(runs.glob(f"*/*/{QUANTIZATION}")):
        quantized = RunFolder(report.parent)
        if report.parent.name == LATEST or quantized.name == folder.name:
            continue
        try:
            if load_experiment(quantized).parents.get("start") == folder.name:
                found[quantized.name] = bits_of(quantized)
        except (ConfigError, RunError):
            continue
    return found
