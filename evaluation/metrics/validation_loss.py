"""Validation loss of a run's EMA weights: the flow-matching loss (paper, Eq. 4) at each of eight noise levels."""

from dataclasses import replace
from pathlib import Path

import torch

from evaluation.contract import Result, Score
from evaluation.subjects.run import find_run
from pocketdit.errors import UserError
from pocketdit.files import sha256_of


class ValidationLoss:
    """Flow-matching loss at eight fixed noise levels on the run's validation split.

    The noise of each sample at each level is fixed, so all models and widths see the same inputs. Values from different
    data, autoencoders or latent scales are not comparable.

    Args:
        run: Path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run.
        width: Width of the sub-network.
        samples: Maximum number of validation samples.
        runs: Folder that contains the runs.

    Raises:
        ConfigError: ``run`` is empty, or the run does not have this width.
        UserError: ``samples`` is below 1, or the run does not exist or has no weights yet.
    """

    def __init__(self, run: str, width: float = 1.0, samples: int = 96, runs: Path = Path("runs")) -> None:
        if samples < 1:
            raise UserError(f"samples must be at least 1, not {samples}")
        # The run is resolved now, because a run that starts while images are being sampled would become the latest one.
        self.folder, self.experiment = find_run(Path(runs), run, width)
        self.width, self.samples = width, samples

    @torch.no_grad()
    def measure(self) -> Result:
        """Compute the loss. "overall" is the mean over the levels, and "t=..." is the loss at one level.

        Raises:
            UserError: The run's data has no validation samples.
        """
        from pocketdit.losses.validation import level_times

        experiment = self.experiment
        losses = self._losses_by_level()
        names = list(next(iter(losses.values())))
        if not names:
            raise UserError(f"the data set of run {self.folder.name} has no validation samples")
        means = {name: sum(by_sample[name] for by_sample in losses.values()) / len(losses) for name in names}
        scores = {"overall": _score(means)}
        scores |= {f"t={t:.4g}": _score({name: by_sample[name] for name in names}) for t, by_sample in losses.items()}
        protocol = {
            "run": self.folder.name,
            "width": self.width,
            "autoencoder": experiment.autoencoder.class_path,
            "autoencoder_arguments": experiment.autoencoder.init_args,
            "data": experiment.data.init_args.get("path"),
            "levels": [float(t) for t in level_times()],
            "weights": "averaged",
            "weights_sha256": sha256_of(self.folder.weights),
            "dtype": "float32",
        }
        return Result("validation-loss", scores, protocol, higher_is_better=False)

    def _losses_by_level(self) -> dict[float, dict[str, float]]:
        """Return the loss of each sample at each noise level, as {level: {sample: loss}}."""
        from pocketdit.artifacts.network import load_network
        from pocketdit.config.component import build
        from pocketdit.diffusion.path import interpolate, velocity
        from pocketdit.encoders.contract import TextTokens
        from pocketdit.losses.validation import fixed_noise, level_times, sample_ids
        from pocketdit.running.assemble import build_encoders
        from pocketdit.running.data import describe

        experiment = self.experiment
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = load_network(self.folder, device)
        arguments = experiment.data.init_args | {"validation_samples": self.samples}
        data = build(replace(experiment.data, init_args=arguments))
        data.setup("validate")
        encoders = build_encoders(experiment, describe(data)).to(device)
        losses: dict[float, dict[str, float]] = {t: {} for t in level_times()}
        for index, batch in enumerate(data.val_dataloader()):
            numbers = sample_ids(batch, index)
            names = batch.get("keys", [str(number) for number in numbers.tolist()])
            latents = encoders.latents(batch).to(device)
            text = [TextTokens(*(part.to(device) for part in tokens)) for tokens in encoders.text_of(batch)]
            for level, (t, by_sample) in enumerate(losses.items()):
                noise = fixed_noise(numbers, level, latents.shape[1:]).to(latents)
                time = torch.full((len(latents),), t, device=device)
                prediction = network(interpolate(latents, noise, time), time, text, width=self.width)
                errors = (prediction.float() - velocity(latents, noise)).square().mean((1, 2, 3))
                by_sample.update(zip(names, errors.tolist(), strict=True))
        return losses


def _score(by_sample: dict[str, float]) -> Score:
    return Score(sum(by_sample.values()) / len(by_sample), len(by_sample), by_sample)
