"""A run from which images can be sampled."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from pocketdit.api.configuration import Config, Overrides, as_overrides
from pocketdit.api.evaluating import evaluate
from pocketdit.api.exporting import export
from pocketdit.artifacts.notice import read_notice
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.config.experiment import Experiment, Sampling
from pocketdit.config.override import change
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from evaluation.report.results import Report
    from pocketdit.running.model import Model


class Sample(NamedTuple):
    """A sampled image.

    Attributes:
        prompt: The prompt.
        width: Width of the sub-network.
        seed: Seed of the initial noise.
        image: The image.
    """

    prompt: str
    width: float
    seed: int
    image: "Image"


class Run:
    """A run from which images can be sampled. Its weights are loaded when the first image is sampled.

    Args:
        folder: The run's folder.
        runs: Folder that contains all runs.
        decoder: The run whose tiny decoder decodes the images, if any.
        lora_scale: Strength of the LoRA of a fine-tuned run.
        device: Name of the device. None selects a GPU if there is one.

    Attributes:
        folder: The run's folder.
        runs: Folder that contains all runs.
    """

    def __init__(
        self,
        folder: RunFolder,
        runs: Path,
        decoder: RunFolder | None = None,
        lora_scale: float = 1.0,
        device: str | None = None,
    ) -> None:
        self.folder, self.runs = folder, runs
        self._decoder, self._lora_scale, self._device = decoder, lora_scale, device

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r})"

    @property
    def name(self) -> str:
        """``EXPERIMENT/RUN``, the name that commands accept."""
        return self.folder.name

    @property
    def notice(self) -> str:
        """The attribution that the license of the training data requires, or "" if it requires none."""
        return read_notice(self.folder)

    @cached_property
    def experiment(self) -> Experiment:
        """The configuration of the run."""
        return load_experiment(self.folder)

    @property
    def widths(self) -> list[float]:
        """The widths of the run, from narrow to wide."""
        return sorted(self.experiment.backbone.widths)

    @cached_property
    def _model(self) -> "Model":
        from pocketdit.running.model import load_model

        model = load_model(self.folder, self.experiment, self._lora_scale, self._device)
        return model if self._decoder is None else model.with_decoder(self._decoder)

    @overload
    def sample(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        widths: float | Sequence[float] | None = None,
        seeds: int | Sequence[int] | None = None,
        steps: int | None = None,
        sampler: SamplerName | None = None,
        guidance: float | None = None,
        size: tuple[int, int] | None = None,
        output: Literal["pil"] = "pil",
    ) -> "list[Sample]": ...

    @overload
    def sample(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        widths: float | Sequence[float] | None = None,
        seeds: int | Sequence[int] | None = None,
        steps: int | None = None,
        sampler: SamplerName | None = None,
        guidance: float | None = None,
        size: tuple[int, int] | None = None,
        output: Literal["tensor"],
    ) -> "Tensor": ...

    def sample(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        widths: float | Sequence[float] | None = None,
        seeds: int | Sequence[int] | None = None,
        steps: int | None = None,
        sampler: SamplerName | None = None,
        guidance: float | None = None,
        size: tuple[int, int] | None = None,
        output: Literal["pil", "tensor"] = "pil",
    ) -> "list[Sample] | Tensor":
        """Sample images from prompts, with the same result as ``lightning sample``.

        Arguments that are None default to the sampling settings of the run.

        Args:
            prompts: The prompts.
            widths: The widths of the sub-networks. None means all of them.
            seeds: The seeds of the initial noise. Each seed yields an image per prompt and width.
            steps: Number of sampling steps.
            sampler: Name of the sampler.
            guidance: Scale of classifier-free guidance; 1 disables it.
            size: Image height and width in pixels.
            output: "pil" returns a list of samples, ordered by width, then by seed, then by prompt. "tensor" returns
                the images as a uint8 tensor, (widths, seeds, prompts, 3, H, W).

        Raises:
            ConfigError: A setting is invalid, the run does not have a width, or there is not enough memory.
            RunError: The weights are missing or damaged.
        """
        import torch

        if output not in ("pil", "tensor"):
            raise ConfigError(f"output: {output!r} is neither 'pil' nor 'tensor'")
        sampling, asked_widths, asked_seeds = self._checked(
            widths, seeds, prompts=prompts, steps=steps, sampler=sampler, guidance=guidance, size=size
        )
        images = torch.stack(
            [
                torch.stack(
                    [self._model.sample(sampling.prompts, width, replace(sampling, seed=seed)) for seed in asked_seeds]
                )
                for width in asked_widths
            ]
        )
        if output == "tensor":
            return images
        from PIL.Image import fromarray

        keys = [(p, w, s) for w in asked_widths for s in asked_seeds for p in sampling.prompts]
        flat = images.flatten(0, 2).permute(0, 2, 3, 1).numpy()
        return [Sample(*key, fromarray(pixels)) for key, pixels in zip(keys, flat, strict=True)]

    def _checked(
        self,
        widths: float | Sequence[float] | None,
        seeds: int | Sequence[int] | None,
        prompts: str | Sequence[str] | None,
        **options: Any,
    ) -> tuple[Sampling, list[float], list[int]]:
        """Check the arguments of ``sample``, and return the sampling settings, the widths and the seeds."""
        from pocketdit.running.model import sampling_device
        from pocketdit.running.sampling_memory import require_sampling_memory
        from pocketdit.running.sampling_options import require_seeds, select_widths, with_sampling

        changed = {name: value for name, value in options.items() if value is not None}
        if prompts is not None:
            changed["prompts"] = (prompts,) if isinstance(prompts, str) else tuple(prompts)
        experiment = with_sampling(self.experiment, **changed)
        asked_widths = [widths] if isinstance(widths, int | float) else list(widths or ())
        asked_seeds = [seeds] if isinstance(seeds, int) else list(seeds or [experiment.sampling.seed])
        require_seeds(asked_seeds, "seeds")
        chosen = select_widths(asked_widths, experiment, self.name, "widths ")
        device = self._device or sampling_device()
        size, prompts = experiment.sampling.size, experiment.sampling.prompts
        require_sampling_memory(experiment, size, len(prompts), "size", device)
        return experiment.sampling, chosen, asked_seeds

    def evaluate(self, evaluation: Config, overrides: Overrides = ()) -> "Report | None":
        """Score this run. See ``pocketdit.evaluate``."""
        return evaluate(evaluation, [*as_overrides(overrides), change("run", str(self.folder.path))])

    def export(self, settings: Config, overrides: Overrides = ()) -> Path:
        """Export this run. See ``pocketdit.export``."""
        return export(settings, [*as_overrides(overrides), change("run", str(self.folder.path))])


def load(
    run: str | Path,
    *,
    runs: str | Path = "runs",
    decoder: str | Path | None = None,
    lora_scale: float = 1.0,
    device: str | None = None,
) -> Run:
    """Find a run from which images can be sampled.

    Args:
        run: Path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run.
        runs: Folder that contains all runs.
        decoder: A run whose tiny decoder decodes the images.
        lora_scale: Strength of the LoRA of a fine-tuned run; 0 samples from the network without it.
        device: Name of the device, such as "cuda:1". None selects a GPU if there is one.

    Raises:
        RunError: The run does not exist.
        ConfigError: ``lora_scale`` is not a finite number.
    """
    from pocketdit.running.sampling_options import require_lora_scale

    require_lora_scale(lora_scale, "lora_scale")
    found = None if decoder is None else find(Path(runs), str(decoder))
    return Run(find(Path(runs), str(run)), Path(runs), found, lora_scale, device)
