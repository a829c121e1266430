"""Validation loss of a run's averaged weights, by noise level: the flow-matching loss (paper Eq. 4) at eight levels."""

from dataclasses import replace
from pathlib import Path

import torch

from evaluation.contract import Result, Score
from pocketdit.errors import UserError


class ValidationLoss:
    """Eight fixed noise levels over the run's own validation split; ``samples``: at most so many pictures of it.

    The noise of a sample and a level is fixed, so that every model and width sees the same. Values of other data,
    autoencoders or scales of latents do not compare.
    """

    prompts = None

    def __init__(self, run: str, width: float = 1.0, samples: int = 96, runs: Path = Path("runs")) -> None:
        if samples < 1:
            raise UserError(f"samples must be at least 1, not {samples}")
        from pocketdit.artifacts.run_folder import find

        # Found now, so that a run that starts while pictures are drawn does not take its place.
        self.folder = find(Path(runs), run)
        self.width, self.samples = width, samples

    @torch.no_grad()
    def measure(self) -> Result:
        from pocketdit.artifacts.network import load_network
        from pocketdit.artifacts.run_folder import load_experiment
        from pocketdit.config.component import build
        from pocketdit.diffusion.path import interpolate, velocity
        from pocketdit.losses.validation import fixed_noise, level_times
        from pocketdit.running.assemble import build_encoders

        folder = self.folder
        experiment = load_experiment(folder)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network, encoders = load_network(folder, device), build_encoders(experiment)
        encoders.to(device)
        arguments = experiment.data.init_args | {"validation_samples": self.samples}
        data = build(replace(experiment.data, init_args=arguments))
        data.setup("validate")
        levels: dict[float, dict[str, float]] = {t: {} for t in level_times()}
        for batch in data.val_dataloader():
            latents, text = encoders.latents(batch).to(device), encoders.tokens(batch["captions"])
            for number, (t, by_sample) in enumerate(levels.items()):
                noise = fixed_noise(batch["ids"], number, latents.shape[1:]).to(latents)
                time = torch.full((len(latents),), t, device=device)
                predicted = network(interpolate(latents, noise, time), time, text, width=self.width)
                losses = (predicted.float() - velocity(latents, noise)).square().mean((1, 2, 3))
                by_sample.update(zip(batch["keys"], losses.tolist(), strict=True))
        names = list(next(iter(levels.values())))
        if not names:
            raise UserError(f"{folder.name}: its data have no validation samples")
        scores = {"overall": _score({name: sum(v[name] for v in levels.values()) / len(levels) for name in names})}
        scores |= {f"t={t:.4g}": _score({name: values[name] for name in names}) for t, values in levels.items()}
        protocol = {
            "run": folder.name,
            "width": self.width,
            "autoencoder": experiment.autoencoder.class_path,
            "autoencoder_arguments": experiment.autoencoder.init_args,
            "data": experiment.data.init_args.get("path"),
            "levels": [float(t) for t in level_times()],
            "weights": "averaged",
            "dtype": "float32",
        }
        return Result("validation-loss", scores, protocol, higher_is_better=False)


def _score(by_prompt: dict[str, float]) -> Score:
    return Score(sum(by_prompt.values()) / len(by_prompt), len(by_prompt), by_prompt)
