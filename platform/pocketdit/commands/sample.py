"""``lightning sample``: a grid of prompts and widths from a finished run."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from pocketdit.artifacts.run_folder import RunFolder, load_experiment
from pocketdit.config.experiment import Experiment, Sampling
from pocketdit.errors import ConfigError
from pocketdit.files import write_atomically


def sample_grid(
    folder: RunFolder, wanted: dict[str, Any], widths: list[float] | None, out: Path, decoder: RunFolder | None = None
) -> None:
    """Draw ``wanted`` (overrides of the run's ``sampling`` section) and write the PNG ``out``.

    ``decoder``: a run whose tiny decoder takes the place of the autoencoder's own.

    Raises ``ConfigError`` for a width or size that the run's network does not have.
    """
    experiment: Experiment = load_experiment(folder)
    sampling = replace_sampling(experiment, wanted)
    known = experiment.backbone.widths
    for width in widths or ():
        if width not in known:
            raise ConfigError(f"--width {width:g}: {folder.name} has {', '.join(f'{w:g}' for w in sorted(known))}")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: must end in .png")
    try:  # before the pictures are drawn, not after
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: {out.parent} cannot be made ({error.strerror})") from None
    if not os.access(out.parent, os.W_OK):
        raise ConfigError(f"--out {out}: {out.parent} cannot be written to")
    import torch

    from pocketdit.artifacts.decoder import with_decoder
    from pocketdit.artifacts.network import load_network
    from pocketdit.running.assemble import build_encoders
    from pocketdit.running.grids import grid, to_uint8
    from pocketdit.sampling import sample

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = load_network(folder, device)
    encoders = build_encoders(experiment)
    if decoder is not None:
        encoders = with_decoder(encoders, experiment, decoder)
    encoders.to(torch.device(device))
    rows, labels = [], []
    for width in sorted(widths or known):
        rows.append(to_uint8(sample(network, encoders, sampling.prompts, width, sampling)))
        labels.append(f"{width:g}x")
        print(f"width {width:g}: {len(sampling.prompts)} pictures, {sampling.steps} steps of {sampling.sampler}")
    picture = grid(rows, labels, sampling.prompts)
    write_atomically(out, lambda temporary: picture.save(temporary, format="PNG"))
    print(out)


def replace_sampling(experiment: Experiment, wanted: dict[str, Any]) -> Sampling:
    """The run's sampling settings with the user's; the experiment's own checks apply."""
    try:
        sampling = dataclasses.replace(experiment.sampling, **wanted)
        dataclasses.replace(experiment, sampling=sampling)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return sampling
