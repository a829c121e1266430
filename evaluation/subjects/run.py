"""A run of this project as a subject."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.contract import ImageArray, ImageSet, Prompt, PromptSet
from evaluation.subjects.image_cache import sample_images
from evaluation.subjects.sampling import device, group_by_size, image_seed
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.config.component import Component, build
from pocketdit.config.experiment import Experiment
from pocketdit.config.importing import import_class
from pocketdit.config.typed import plain
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.encoders.contract import CaptionReader, FrozenModule, TextEncoder
from pocketdit.encoders.inputs import Encoders
from pocketdit.errors import ConfigError, RunError
from pocketdit.files import sha256_of


class Run:
    """Samples images with the EMA weights of a run at one width.

    Sampling settings that are None default to the run's own ``sampling``. Image n of each prompt starts from noise with
    seed 1000 * ``seed`` + n.

    Args:
        run: Path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run.
        width: Width of the sub-network.
        steps: Sampling steps.
        guidance: Guidance scale.
        sampler: Name of the sampler.
        seed: Seed of the images.
        batch_size: Images per batch.
        runs: Folder that contains the runs.
        decoder: Run whose tiny decoder replaces the autoencoder's own decoder.
        lora_scale: Strength of the run's LoRA; 0 samples from the network without it.

    Raises:
        ConfigError: ``run`` is empty, or the run does not have this width.
        UserError: A run does not exist or has no weights yet.
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
        lora_scale: float = 1.0,
    ) -> None:
        from pocketdit.artifacts.network import require_weights

        self.folder, self.experiment = find_run(Path(runs), run, width)
        self.decoder = find(Path(runs), decoder) if decoder else None
        if self.decoder is not None:
            require_weights(self.decoder)
        own = self.experiment.sampling
        self.sampling = replace(
            own,
            steps=own.steps if steps is None else steps,
            guidance=own.guidance if guidance is None else guidance,
            sampler=sampler or own.sampler,
            seed=seed,
        )
        self.width, self.batch_size, self.lora_scale = width, batch_size, lora_scale
        strength = "" if lora_scale == 1 else f", LoRA scale {lora_scale:g}"
        self.name = f"{self.folder.name} {width:g}x{strength}" + (f", {self.decoder.name}" if self.decoder else "")
        self._weights_sha256 = ""
        self._loaded: tuple[Any, Any] | None = None

    def provenance(self) -> dict[str, Any]:
        """Return the run, the hash of its weights, its encoders and the sampling settings."""
        sampling = self.sampling
        decoder = {}
        if self.decoder is not None:
            decoder = {"decoder": self.decoder.name, "decoder_sha256": sha256_of(self.decoder.weights)}
        lora = {} if self.lora_scale == 1 else {"lora_scale": self.lora_scale}
        noise = {} if sampling.noise == "torch" else {"noise": sampling.noise}
        return (
            decoder
            | lora
            | noise
            | {
                "subject": "run",
                "run": self.folder.name,
                "weights_sha256": self._digest(),
                "width": self.width,
                "steps": sampling.steps,
                "sampler": sampling.sampler,
                "guidance": sampling.guidance,
                "time_shift": sampling.time_shift,
                "size": list(sampling.size),
                "seed": sampling.seed,
                "dtype": self._dtype(),
                "autoencoder": describe_encoder(self.experiment.autoencoder),
                "text_encoders": [describe_encoder(component) for component in self.experiment.text_encoders],
            }
        )

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        """Sample the images and store them under ``root``.

        Their provenance includes how many prompts each text encoder truncates.
        """
        self._require_sizes(prompts)
        images = sample_images(self, prompts, root)
        counts = count_truncated(self._text_encoders(), [prompt.text for prompt in prompts.prompts])
        return replace(images, provenance={**images.provenance, "truncated_prompts": counts})

    def _require_sizes(self, prompts: PromptSet) -> None:
        """Check that the network accepts the image size of every prompt. Other sizes would be rounded down."""
        for size, group in group_by_size(prompts.prompts, self.sampling.size):
            try:
                replace(self.experiment, sampling=replace(self.experiment.sampling, size=size)).check()
            except ValueError as error:
                raise ConfigError(f"prompt {group[0].id}: {error}") from error

    def sample(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, ImageArray]]:
        """Yield image ``number`` of every prompt, grouped by image size.

        Raises:
            RunError: The weights or an image contain NaN or infinity, or the weights are damaged.
        """
        from pocketdit.images import require_finite, to_uint8
        from pocketdit.running.sampling_memory import require_sampling_memory
        from pocketdit.sampling import sample
        from pocketdit.training.precision import inference_autocast

        network, encoders = self._load()
        for size, group in group_by_size(prompts, self.sampling.size):
            sampling = replace(self.sampling, size=size, seed=image_seed(self.sampling.seed, number))
            count = min(len(group), self.batch_size)
            require_sampling_memory(self.experiment, size, count, f"size of the prompts, {self.name}", device())
            for first in range(0, len(group), self.batch_size):
                batch = group[first : first + self.batch_size]
                with inference_autocast(self.experiment.training.precision, device()):
                    texts = [prompt.text for prompt in batch]
                    images = sample(network, encoders, texts, self.width, sampling, batch_size=len(batch))
                pixels = to_uint8(require_finite(images, self.name))
                for prompt, image in zip(batch, pixels.permute(0, 2, 3, 1).numpy(), strict=True):
                    yield prompt, np.ascontiguousarray(image)

    def _load(self) -> tuple[Any, Any]:
        """Return the network and the encoders."""
        if self._loaded is None:
            from pocketdit.artifacts.decoder import with_decoder
            from pocketdit.artifacts.network import load_network
            from pocketdit.running.assemble import build_encoders

            encoders = build_encoders(self.experiment)
            if self.decoder is not None:
                encoders = with_decoder(encoders, self.experiment, self.decoder)
            encoders.to(torch.device(device()))
            self._loaded = load_network(self.folder, device(), self.lora_scale), encoders
            if sha256_of(self.folder.weights) != self._digest():
                raise RunError(
                    f"the weights of {self.folder.name} changed during the evaluation; wait until the run has finished"
                )
        return self._loaded

    def _text_encoders(self) -> Sequence[TextEncoder]:
        """Return the text encoders. If all images exist, nothing else is loaded."""
        if self._loaded is not None:
            encoders: Encoders = self._loaded[1]
            return encoders.text
        return [build(component) for component in self.experiment.text_encoders]

    def _dtype(self) -> str:
        """Return the name of the dtype of matrix products. The run's previews use the same dtype on this machine."""
        from pocketdit.training.precision import inference_dtype

        return str(inference_dtype(self.experiment.training.precision, device())).removeprefix("torch.")

    def _digest(self) -> str:
        """Return the hash of the weights at the time of the first call, to detect later changes."""
        if not self._weights_sha256:
            self._weights_sha256 = sha256_of(self.folder.weights)
        return self._weights_sha256


def find_run(runs: Path, run: str, width: float) -> tuple[RunFolder, Experiment]:
    """Return a run's folder and its experiment.

    Args:
        runs: Folder that contains the runs.
        run: Path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run.
        width: A width that the run must have.

    Raises:
        ConfigError: ``run`` is empty, or the run does not have this width.
        UserError: The run does not exist or has no weights yet.
    """
    from pocketdit.artifacts.network import require_weights

    if not run:
        raise ConfigError("run: not set; add run=EXPERIMENT or run=EXPERIMENT/RUN")
    folder = find(runs, run)
    require_weights(folder)
    experiment = load_experiment(folder)
    if width not in experiment.backbone.widths:
        widths = ", ".join(f"{known:g}" for known in sorted(experiment.backbone.widths))
        raise ConfigError(f"width={width:g}: {folder.name} only has the widths {widths}")
    return folder, experiment


def describe_encoder(component: Component) -> dict[str, Any]:
    """Return an encoder's class and arguments, and the state of its weights if they are in a user's folder.

    Files from the Hub are not included, because they are only downloaded on first use. The arguments state their
    revision.
    """
    cls = import_class(component.class_path)
    files: list[Path] = []
    if issubclass(cls, FrozenModule) and any(
        Path(component.init_args.get(n) or "?").is_dir() for n in cls.weight_sources
    ):
        folder = cls.weights_folder(component.init_args)
        files = sorted(folder.glob("*.safetensors")) if folder is not None else []
    states = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return {**plain(component), "files": states}


def count_truncated(encoders: Sequence[TextEncoder], texts: Sequence[str]) -> dict[str, int]:
    """Return a mapping from each text encoder's configuration key to the number of texts that it truncates."""
    return {
        f"text_encoders.{i}": sum(0 < reading.seen < reading.tokens for reading in encoder.read(texts))
        for i, encoder in enumerate(encoders)
        if isinstance(encoder, CaptionReader)
    }
