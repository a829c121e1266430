"""A published text-to-image transformer of diffusers as a teacher. ``Architecture`` describes how to call it.

Shape letters: B = batch, C = latent channels, h x w = latent sides, L = text tokens, N = image tokens, F = features.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from pocketdit.backbones.lora import activate_adapter
from pocketdit.config.component import Component, build
from pocketdit.config.declared import latents_kind
from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import ConfigError, RunError
from pocketdit.teachers.architecture import PATCH_SIZE, Architecture
from pocketdit.teachers.contract import FEW_STEP_ADAPTER, TeacherOutput
from pocketdit.teachers.few_step_lora import add_lora, find_lora
from pocketdit.teachers.outline import TeacherOutline, diffusers_outline
from pocketdit.teachers.text_encoder import TeacherTextEncoder
from pocketdit.teachers.transformer import load_transformer, require_same_shapes


class Condition(NamedTuple):
    """Encoded captions in the format that the transformer expects. The lists have one entry per text encoder."""

    text: list[TextTokens]
    """The tokens of B captions, in the teacher's dtype."""
    blank: list[TextTokens] | None = None
    """The tokens of the empty caption, with B = 1. If None, the empty caption is encoded when it is needed."""


class DiffusersTeacher:
    """A frozen transformer and its text encoders. A subclass only sets ``architecture``.

    The few-step teacher is either a LoRA on the same weights or a second transformer of the same architecture.

    Args:
        repository: A folder, or the name of a repository on the Hugging Face Hub, which contains ``transformer/``, the
            text encoders and their tokenizers, with weights in the safetensors format.
        lora: The few-step LoRA: a .safetensors file, a folder, or a repository on the Hub.
        lora_file: Name of the file in ``lora``. Optional for a folder with exactly one .safetensors file.
        few_step: Repository of the few-step transformer. If it is ``repository`` itself, which then contains a
            few-step model, both teachers are the same and the weights are loaded only once.
        revision: Revision of ``repository`` on the Hub.
        few_step_revision: Revision of ``few_step`` on the Hub.
        max_tokens: Maximum length of a caption, including the template of the text encoder. Longer captions are
            truncated. The default depends on the class.
        dtype: Precision of the weights and the computation. The results are always float32.
        float8: Whether to store the weights of linear layers in 8 bits (e4m3). They are converted to ``dtype`` whenever
            a layer is used. This halves their memory but rounds the weights. It is only supported on one device.
        load_text: Whether to load the text encoders. A run sets it to false if its data set stores the embeddings.

    Raises:
        ConfigError: ``max_tokens`` is out of range, or two arguments contradict each other.
        RunError: A checkpoint is missing, incomplete, or of the wrong kind, or the LoRA does not fit.
    """

    architecture: ClassVar[Architecture]
    few_step_arguments: ClassVar[tuple[str, ...]] = ("lora", "lora_file", "few_step", "few_step_revision")

    def __init__(
        self,
        repository: str,
        lora: str | None = None,
        lora_file: str | None = None,
        few_step: str | None = None,
        revision: str | None = None,
        few_step_revision: str | None = None,
        max_tokens: int | None = None,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        float8: bool = False,
        load_text: bool = True,
    ) -> None:
        self._check_arguments(few_step, lora, float8)
        # Find the LoRA before loading anything large, so that a wrong name is reported immediately.
        adapter = None if lora is None else find_lora(lora, lora_file)
        self.dtype: torch.dtype = getattr(torch, dtype)
        components = self.text_components(repository, revision, max_tokens, dtype) if load_text else []
        self.text_encoders: list[TeacherTextEncoder] = [build(encoder) for encoder in components]
        self._has_text = load_text
        self.transformer = load_transformer(self.architecture, repository, revision, self.dtype)
        self._few_step_transformer = self.transformer
        if few_step not in (None, repository):
            self._few_step_transformer = load_transformer(self.architecture, few_step, few_step_revision, self.dtype)
            require_same_shapes(self._few_step_transformer, self.transformer, few_step, repository)
        if adapter is not None:
            add_lora(self.transformer, adapter, self.architecture)
        config = self.transformer.config
        self._require_width(repository, config)
        for transformer in self._transformers():
            # Call eval() because a LoRA may use dropout.
            transformer.requires_grad_(False).eval()
            if float8:
                transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=self.dtype)
        self.feature_width = int(getattr(self.transformer, self.architecture.feature_width))
        self.patch_size = PATCH_SIZE
        self.channels = self.architecture.channels(self.transformer)
        self.has_few_step = adapter is not None or few_step is not None
        self._has_lora, self._is_float8 = adapter is not None, float8
        self._takes_guidance = self.architecture.takes_guidance(self.transformer)
        self._few_step_depth = 0
        self._unconditional: dict[torch.device, list[TextTokens]] = {}

    def _check_arguments(self, few_step: str | None, lora: str | None, float8: bool) -> None:
        if lora is not None and few_step is not None:
            raise ConfigError("lora and few_step: both specify the few-step teacher; remove one of them")
        if lora is not None and self.architecture.lora_loader is None:
            raise ConfigError(
                f"lora: not supported for {self.architecture.name}; set few_step to a few-step repository"
            )
        if lora is not None and float8:
            raise ConfigError("float8: cannot be combined with lora; remove one of them")

    def _require_width(self, repository: str, config: Any) -> None:
        width = self.architecture.text_shapes(config, 1, 1)[0].width
        if self.text_encoders and self.text_encoders[0].width != width:
            raise RunError(
                f"{repository}: the text encoder must have width {width}, not {self.text_encoders[0].width}; download "
                "it again"
            )

    def _transformers(self) -> list[Any]:
        """Return the distinct transformers."""
        return list({id(each): each for each in (self.transformer, self._few_step_transformer)}.values())

    @classmethod
    def text_components(
        cls,
        repository: str,
        revision: str | None = None,
        max_tokens: int | None = None,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        **_: object,
    ) -> list[Component]:
        """Return the configurations of the text encoders, whose embeddings a data set can store."""
        length = cls.architecture.max_tokens if max_tokens is None else max_tokens
        return cls.architecture.text(repository, revision, length, dtype)

    @classmethod
    def outline(
        cls,
        device: torch.device,
        tokens: int,
        repository: str,
        few_step: str | None = None,
        max_tokens: int | None = None,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        float8: bool = False,
        **_: object,
    ) -> TeacherOutline | None:
        """Return the teacher's outline, or None if its size is not known."""
        return diffusers_outline(
            cls.architecture,
            repository,
            cls.text_components(repository, None, max_tokens, dtype),
            tokens=tokens,
            max_tokens=cls.architecture.max_tokens if max_tokens is None else max_tokens,
            copies=1 if few_step in (None, repository) else 2,
            dtype=getattr(torch, dtype),
            float8=float8,
            device=device,
        )

    @contextmanager
    def few_step(self) -> Iterator[None]:
        """Activate the few-step teacher inside the context. Contexts can be nested."""
        if not self.has_few_step:
            raise RunError("the teacher has no few-step LoRA; set lora or few_step in its init_args")
        self._few_step_depth += 1
        if self._has_lora:
            activate_adapter(self.transformer, FEW_STEP_ADAPTER)
        try:
            yield
        finally:
            self._few_step_depth -= 1
            if self._has_lora and not self._few_step_depth:
                activate_adapter(self.transformer, None)

    @classmethod
    def check_latents(cls, autoencoder: Component, **_: object) -> None:
        """Raise ``ConfigError`` if the autoencoder's ``kind`` is not the one that the teacher requires."""
        own, kind = cls.architecture.latents, latents_kind(autoencoder)
        if kind is None:
            raise ConfigError(
                f"autoencoder: {autoencoder.class_path} does not declare that its latents are of kind {own}, which the "
                "teacher requires; use pocketdit.encoders.vae.DiffusersAutoencoder, or set the class attribute kind in "
                "a class of your own that has these latents"
            )
        if kind != own:
            raise ConfigError(f"autoencoder: kind {kind} does not match the teacher, which requires kind {own}")

    @torch.no_grad()
    def condition(self, captions: Sequence[str]) -> Condition:
        """Encode B captions with the text encoders, on their device.

        Raises:
            RunError: The text encoders have not been loaded.
        """
        if not self._has_text:
            raise RunError("the teacher's text encoders are not loaded; set load_text to true in its init_args")
        return Condition(self._converted([encoder.encode(captions) for encoder in self.text_encoders]))

    def condition_on(self, text: Sequence[TextTokens], blank: Sequence[TextTokens]) -> Condition:
        """Return the condition for stored tokens of B captions and of the empty caption."""
        return Condition(self._converted(text), self._converted(blank))

    def _converted(self, text: Sequence[TextTokens]) -> list[TextTokens]:
        return [tokens._replace(embeddings=tokens.embeddings.to(self.dtype)) for tokens in text]

    @torch.no_grad()
    def predict(self, x_t: Tensor, time: Tensor, condition: Condition, guidance: float = 1.0) -> TeacherOutput:
        """Implement ``Teacher.predict`` for sides h and w that are multiples of ``patch_size``."""
        if x_t.shape[1] != self.channels or any(side % PATCH_SIZE for side in x_t.shape[-2:]):
            raise ValueError(
                f"latents must have {self.channels} channels and sides that are multiples of {PATCH_SIZE}, not "
                f"{tuple(x_t.shape)}"
            )
        with torch.autocast(x_t.device.type, enabled=False):
            velocity, features = self._predict(x_t, time, condition.text, guidance)
            if guidance != 1.0 and not self._takes_guidance:
                # Run a second pass instead of doubling the batch. In a single batch, the shorter text would be padded,
                # and padding requires a mask, which slows down attention.
                negative = self._blank_for(condition, len(x_t), x_t.device)
                unconditional, _ = self._predict(x_t, time, negative, guidance)
                velocity = self.architecture.guide(velocity, unconditional, guidance)
        return TeacherOutput(velocity, features.float())

    def _predict(self, x_t: Tensor, time: Tensor, text: list[TextTokens], guidance: float) -> tuple[Tensor, Tensor]:
        """Return the velocity in float32, and the last block's output for the image tokens, (B, N, F)."""
        transformer = self._few_step_transformer if self._few_step_depth else self.transformer
        features: list[Tensor] = []

        def save_features(_output: nn.Module, inputs: tuple[Any, ...]) -> None:
            features.append(inputs[0])

        hook = transformer.get_submodule(self.architecture.output).register_forward_pre_hook(save_features)
        try:
            velocity = self.architecture.velocity(transformer, x_t.to(self.dtype), time, text, guidance)
        finally:
            hook.remove()
        tokens = x_t.shape[-2] * x_t.shape[-1] // PATCH_SIZE**2
        return velocity.float(), features[0][:, :tokens]

    def _blank_for(self, condition: Condition, count: int, device: torch.device) -> list[TextTokens]:
        blank = condition.blank
        if blank is None:
            if device not in self._unconditional:
                self._unconditional[device] = self.condition([""]).text
            blank = self._unconditional[device]
        return [TextTokens(*(part.expand(count, *part.shape[1:]) for part in tokens)) for tokens in blank]

    def to(self, device: torch.device) -> Self:
        """Move the transformers and the text encoders to a device in place."""
        for module in (*self._transformers(), *self.text_encoders):
            module.to(device)
        return self

    def shard(self, mesh: DeviceMesh) -> None:
        """Shard the transformers and the text encoders across ranks, block by block, unless they are already sharded.

        Raises:
            ConfigError: The weights are stored in 8 bits.
        """
        if isinstance(next(self.transformer.parameters()), DTensor):
            return
        if self._is_float8:
            raise ConfigError("float8: cannot be sharded; set it to false in the teacher's init_args")
        transformers = self._transformers()
        blocks = [block for each in transformers for name in self.architecture.blocks for block in getattr(each, name)]
        for block in (*blocks, *(layer for encoder in self.text_encoders for layer in encoder.layers)):
            fully_shard(block, mesh=mesh)
        # The root modules must also free their weights after the forward pass, because no backward pass will free them.
        for root in (*transformers, *(encoder.model for encoder in self.text_encoders)):
            fully_shard(root, mesh=mesh, reshard_after_forward=True)
