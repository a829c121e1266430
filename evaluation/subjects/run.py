"""A run of this project."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evaluation.contract import ImageArray, ImageSet, Prompt, PromptSet
from evaluation.subjects.images import draw_images
from evaluation.subjects.sampling import by_size, device, picture_seed, to_pictures
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.files import sha256_of


class Run:
    """A run of this project at one width, with its averaged weights.

    ``run``: path, EXPERIMENT/RUN, or EXPERIMENT for its latest. What is not told is as the run's own ``sampling``.
    Image n of a prompt starts from the noise of seed 1000 ``seed`` + n. ``decoder``: a run whose tiny decoder makes
    the pictures in place of the autoencoder's own.
    """

    def __init__(
        self,
        run: str,
        width: float = 1.0,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: SamplerName | None = None,
        seed: int = 0,
        batch_size: int = 16,
        runs: Path = Path("runs"),
        decoder: str | None = None,
    ) -> None:
        from pocketdit.artifacts.run_folder import find, load_experiment

        if not run:
            raise ConfigError("no run to evaluate: add run=EXPERIMENT or run=EXPERIMENT/RUN")
        self.folder = find(Path(runs), run)
        self.decoder = find(Path(runs), decoder) if decoder else None
        for folder in (self.folder, self.decoder):
            if folder is not None and not folder.weights.is_file():
                raise UserError(f"{folder.path} has no weights yet: go on with it by --resume {folder.name}")
        self.experiment = load_experiment(self.folder)
        if width not in self.experiment.backbone.widths:
            known = ", ".join(f"{known:g}" for known in sorted(self.experiment.backbone.widths))
            raise ConfigError(f"{self.folder.name} has no width {width:g}; it has {known}")
        told = {"steps": steps, "guidance": guidance, "sampler": sampler}
        self.sampling = replace(
            self.experiment.sampling, seed=seed, **{name: value for name, value in told.items() if value is not None}
        )
        self.width, self.batch_size = width, batch_size
        self.name = f"{self.folder.name} {width:g}x" + (f", {self.decoder.name}" if self.decoder else "")
        self._digest = ""
        self._loaded: tuple[Any, Any] | None = None

    def provenance(self) -> dict[str, Any]:
        sampling = self.sampling
        decoded = {}
        if self.decoder is not None:
            decoded = {"decoder": self.decoder.name, "decoder_sha256": sha256_of(self.decoder.weights)}
        return decoded | {
            "subject": "run",
            "run": self.folder.name,
            "weights_sha256": self._weights_digest(),
            "width": self.width,
            "steps": sampling.steps,
            "sampler": sampling.sampler,
            "guidance": sampling.guidance,
            "time_shift": sampling.time_shift,
            "size": list(sampling.size),
            "seed": sampling.seed,
            "dtype": "float32",
        }

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        return draw_images(self, prompts, root)

    def draw(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, ImageArray]]:
        from pocketdit.sampling import sample

        network, encoders = self._load()
        for size, some in by_size(prompts, self.sampling.size):
            sampling = replace(self.sampling, size=size, seed=picture_seed(self.sampling.seed, number))
            for first in range(0, len(some), self.batch_size):
                batch = some[first : first + self.batch_size]
                drawn = sample(network, encoders, [prompt.text for prompt in batch], self.width, sampling)
                yield from zip(batch, to_pictures(drawn), strict=True)

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from pocketdit.artifacts.decoder import with_decoder
            from pocketdit.artifacts.network import load_network
            from pocketdit.running.assemble import build_encoders

            encoders = build_encoders(self.experiment)
            if self.decoder is not None:
                encoders = with_decoder(encoders, self.experiment, self.decoder)
            encoders.to(torch.device(device()))
            self._loaded = load_network(self.folder, device()), encoders
            if sha256_of(self.folder.weights) != self._weights_digest():
                raise RunError(f"{self.folder.name}: its weights changed meanwhile; evaluate it when it has finished")
        return self._loaded

    def _weights_digest(self) -> str:
        """Of the weights when first asked, so that all prompt sets are of the same ones."""
        if not self._digest:
            self._digest = sha256_of(self.folder.weights)
        return self._digest
