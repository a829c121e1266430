"""What is evaluated: a run of ours at any width, any diffusers pipeline, or a folder of pictures."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from evaluation.contract import ImageSet, Picture, Prompt, PromptSet
from evaluation.images import check_ids, draw_images
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.files import sha256_of

_NAMES_SHOWN = 3
_PICTURES_A_SEED = 1000


class Subject(Protocol):
    """``name`` is how reports call it."""

    name: str

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        """Pictures of the prompts, made (and kept under ``root``) or found."""
        ...


def device() -> str:
    """This process's GPU (torchrun's LOCAL_RANK), or the CPU."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def picture_seed(seed: int, number: int) -> int:
    """Of a prompt's ``number``-th picture; two seeds share none."""
    return _PICTURES_A_SEED * seed + number


def to_pictures(images: torch.Tensor) -> list[Picture]:
    """(B, 3, H, W) in [-1, 1] -> B times uint8 (H, W, 3)."""
    scaled = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [np.ascontiguousarray(picture) for picture in scaled.permute(0, 2, 3, 1).cpu().numpy()]


def size_of(prompt: Prompt, default: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels: what the prompt's metadata ask for, else the default."""
    if "width" in prompt.metadata and "height" in prompt.metadata:
        return int(prompt.metadata["height"]), int(prompt.metadata["width"])
    return default


def by_size(prompts: Sequence[Prompt], default: tuple[int, int]) -> Iterator[tuple[tuple[int, int], list[Prompt]]]:
    """Prompts of one size together."""
    ordered = sorted(prompts, key=lambda prompt: size_of(prompt, default))
    for size, some in groupby(ordered, key=lambda prompt: size_of(prompt, default)):
        yield size, list(some)


class Run:
    """A run of this project at one width, with its averaged weights.

    ``run``: path, EXPERIMENT/RUN, or EXPERIMENT for its latest. What is not told is as the run's own ``sampling``.
    Picture n of a prompt starts from the noise of seed 1000 ``seed`` + n. ``decoder``: a run whose tiny decoder makes
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

    def draw(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, Picture]]:
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


class DiffusersPipeline:
    """Any text-to-image pipeline of diffusers, by a local folder or by its name on the Hugging Face hub.

    ``arguments`` are handed to the pipeline's call as they are. Picture n of a prompt has a generator of its own, of
    seed 1000 ``seed`` + n, so that it does not depend on its batch. Name a ``revision`` of a hub's model: a branch may
    move.
    """

    def __init__(
        self,
        model: str,
        steps: int = 28,
        guidance: float = 4.5,
        size: tuple[int, int] = (1024, 1024),
        seed: int = 0,
        batch_size: int = 1,
        dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16",
        revision: str | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        self.model, self.revision, self.dtype = model, revision, dtype
        self.steps, self.guidance, self.size, self.seed = steps, guidance, size, seed
        self.batch_size, self.arguments = batch_size, arguments or {}
        self.name = Path(model).name
        self._pipeline: Any = None

    def provenance(self) -> dict[str, Any]:
        import diffusers

        return {
            "subject": "diffusers",
            "model": self.model,
            "revision": self.revision,
            "files": self._files(),
            "pipeline": type(self._load()).__name__,
            "diffusers": diffusers.__version__,
            "steps": self.steps,
            "guidance": self.guidance,
            "size": list(self.size),
            "seed": self.seed,
            "dtype": self.dtype,
            "arguments": self.arguments,
        }

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        return draw_images(self, prompts, root)

    def draw(self, prompts: Sequence[Prompt], number: int) -> Iterator[tuple[Prompt, Picture]]:
        pipeline = self._load()
        for (height, width), some in by_size(prompts, self.size):
            for first in range(0, len(some), self.batch_size):
                batch = some[first : first + self.batch_size]
                drawn = pipeline(
                    prompt=[prompt.text for prompt in batch],
                    num_inference_steps=self.steps,
                    guidance_scale=self.guidance,
                    height=height,
                    width=width,
                    generator=[torch.Generator("cpu").manual_seed(picture_seed(self.seed, number)) for _ in batch],
                    output_type="np",
                    **self.arguments,
                ).images
                yield from zip(batch, np.round(np.asarray(drawn) * 255).astype(np.uint8), strict=True)

    def _load(self) -> Any:
        if self._pipeline is None:
            from diffusers import DiffusionPipeline

            try:
                pipeline = DiffusionPipeline.from_pretrained(
                    self.model, revision=self.revision, torch_dtype=getattr(torch, self.dtype)
                )
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise UserError(f"{self.model}: not a diffusers pipeline that can be loaded here ({reason})") from error
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline.to(device())
        return self._pipeline

    def _files(self) -> list[tuple[str, int, int]]:
        """Names, sizes and times of a local folder's files: they change when weights are replaced."""
        files = sorted(path for path in Path(self.model).rglob("*") if path.is_file())
        return [(str(f.relative_to(self.model)), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


class Folder:
    """Pictures that something else made, found by the prompt's id, never by position.

    Under ``path``: ``<id>/*.png`` (or jpg, webp), GenEval's ``<id>/samples/*``, or ``<id>.png``. All prompts need
    equally many; results say sampling many there are, which may be fewer than a benchmark's protocol asks for.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise ConfigError(f"{self.path}: no such folder of pictures")
        self.name = name or self.path.name

    def images(self, prompts: PromptSet, root: Path) -> ImageSet:
        """``UserError`` where a prompt has no picture."""
        check_ids(prompts)
        found = {prompt.id: self._find(prompt.id) for prompt in prompts.prompts}
        without = [name for name, paths in found.items() if not paths]
        if without:
            shown = ", ".join(without[:_NAMES_SHOWN])
            raise UserError(
                f"{self.path}: no picture for {len(without)} of {len(found)} prompts of {prompts.name} ({shown}"
                f"{', ...' if len(without) > _NAMES_SHOWN else ''}); they belong into {self.path / without[0]}/"
            )
        counts = {len(paths) for paths in found.values()}
        if len(counts) > 1:
            fewest = min(found, key=lambda name: len(found[name]))
            raise UserError(
                f"{self.path}: from {min(counts)} to {max(counts)} pictures a prompt, fewest for {fewest}; "
                "give all equally many"
            )
        prompts = replace(prompts, images_each=counts.pop())
        return ImageSet(prompts, found, {"subject": "folder", "path": str(self.path), "name": self.name})

    def _find(self, name: str) -> tuple[Path, ...]:
        for folder in (self.path / name / "samples", self.path / name):
            if pictures := sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES):
                return tuple(pictures)
        return tuple(path for suffix in _SUFFIXES if (path := self.path / f"{name}{suffix}").is_file())[:1]


_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
