"""``lightning sample``: a grid of prompts and widths from a finished run."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from elastic_dit.config.experiment import Experiment, Sampling
from elastic_dit.errors import ConfigError
from elastic_dit.files import write_atomically
from elastic_dit.training.run_folder import RunFolder, load_experiment


def sample_grid(
    folder: RunFolder, wanted: dict[str, Any], widths: list[float] | None, out: Path, decoder: RunFolder | None = None
) -> None:
    """Draw ``wanted`` (overrides of the run's ``sampling`` section) and write the PNG ``out``.

    ``decoder``: a run whose tiny decoder takes the place of the autoencoder's own.

    Raises ``ConfigError`` for a width or size that the run's network does not have.
    """
    experiment: Experiment = load_experiment(folder)
    how = replace_sampling(experiment, wanted)
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

    from elastic_dit.sampling import sample
    from elastic_dit.training.assemble import build_encoders, load_network
    from elastic_dit.training.decoders import with_decoder
    from elastic_dit.training.grids import grid, to_uint8

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = load_network(folder, device)
    encoders = build_encoders(experiment)
    if decoder is not None:
        encoders = with_decoder(encoders, experiment, decoder)
    encoders.to(torch.device(device))
    rows, labels = [], []
    for width in sorted(widths or known):
        rows.append(to_uint8(sample(network, encoders, how.prompts, width, how)))
        labels.append(f"{width:g}x")
        print(f"width {width:g}: {len(how.prompts)} pictures, {how.steps} steps of {how.sampler}")
    picture = grid(rows, labels, how.prompts)
    write_atomically(out, lambda temporary: picture.save(temporary, format="PNG"))
    print(out)


def replace_sampling(experiment: Experiment, wanted: dict[str, Any]) -> Sampling:
    """The run's sampling settings with the user's; the experiment's own checks apply."""
    try:
        how = dataclasses.replace(experiment.sampling, **wanted)
        dataclasses.replace(experiment, sampling=how)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return how
