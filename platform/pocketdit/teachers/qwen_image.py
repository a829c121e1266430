"""Qwen-Image (arXiv 2508.02324) as a teacher, using diffusers.

The LoRA of Qwen-Image-Lightning turns it into a few-step teacher. The student must use the latents of Qwen-Image's own
autoencoder (``encoders.vae`` with kind "qwen_image").

Shape letters: B = batch, C = latent channels, h x w = latent sides, L = text tokens, N = image tokens, F = features.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from pocketdit.backbones.lora import activate_adapter
from pocketdit.config.component import Component
from pocketdit.encoders.checkpoints import explain_load_errors, require_complete
from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import ConfigError, RunError
from pocketdit.teachers.contract import FEW_STEP_ADAPTER, TeacherOutput
from pocketdit.teachers.lightning_lora import add_lora, find_lora
from pocketdit.teachers.outline import TeacherOutline, qwen_image_outline
from pocketdit.teachers.qwen_image_text import EMPTY_PROMPT, TEMPLATE_PREFIX_TOKENS, QwenImageTextEncoder

TRANSFORMER_CLASS = "QwenImageTransformer2DModel"


class TextEmbeddings(NamedTuple):
    """Encoded captions in the format that the transformer expects."""

    embeddings: Tensor
    """(B, L, width) in the teacher's dtype, zero where the mask is False. L is the length of the longest caption."""
    mask: Tensor | None
    """(B, L), bool, True for real tokens. None if all tokens are real, so that attention needs no mask."""
    blank: Tensor | None = None
    """(1, L', width), the empty caption. None if the empty caption is encoded when it is needed."""


class QwenImageTeacher:
    """Qwen-Image's frozen transformer and text encoder.

    Guidance is renormalized as in diffusers' pipeline. The LoRA is a separate adapter, so the base weights are stored
    only once.

    Args:
        repository: A folder, or the name of a Hugging Face hub repository such as Qwen/Qwen-Image. It must
            contain ``transformer/``, ``text_encoder/``, and ``tokenizer/``, with weights in the safetensors format.
        lora: The few-step LoRA: a .safetensors file, a folder, or a repository on the hub, such as
            lightx2v/Qwen-Image-Lightning.
        lora_file: Name of the file in ``lora``. Optional for a folder with exactly one .safetensors file.
        revision: Revision of ``repository`` on the hub.
        max_tokens: Maximum length of a caption and the end of the template, up to 1024. Longer captions are truncated.
        dtype: Precision of the weights and the computation. The results are always float32.
        load_text: Whether to load the text encoder. A run sets it to false if its data set stores the embeddings.

    Raises:
        ConfigError: ``max_tokens`` is out of range.
        RunError: A checkpoint is missing, incomplete, or of the wrong kind, or the LoRA does not fit.
    """

    def __init__(
        self,
        repository: str,
        lora: str | None = None,
        lora_file: str | None = None,
        revision: str | None = None,
        max_tokens: int = 512,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        load_text: bool = True,
    ) -> None:
        # Find the LoRA before loading anything large, so that a wrong name fails immediately.
        adapter = None if lora is None else find_lora(lora, lora_file)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.text = QwenImageTextEncoder(repository, revision, max_tokens, dtype) if load_text else None
        self.transformer = _load_transformer(repository, revision, self.dtype)
        config = self.transformer.config
        if self.text is not None and self.text.width != config.joint_attention_dim:
            raise RunError(
                f"{repository}: the text encoder must have width {config.joint_attention_dim}, not {self.text.width}; "
                "download it again"
            )
        if adapter is not None:
            add_lora(self.transformer, adapter)
        # Call eval() because a LoRA may use dropout.
        self.transformer.requires_grad_(False).eval()
        self.feature_width = int(self.transformer.inner_dim)
        self.patch_size = int(config.patch_size)
        self.channels = int(config.in_channels) // self.patch_size**2
        self.has_few_step = adapter is not None
        self._few_step_depth = 0
        self._unconditional: dict[torch.device, TextEmbeddings] = {}

    @classmethod
    def text_components(
        cls,
        repository: str,
        revision: str | None = None,
        max_tokens: int = 512,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        **_: object,
    ) -> list[Component]:
        """Return the configuration of the text encoder, whose embeddings a data set can store."""
        arguments = {"repository": repository, "revision": revision, "max_tokens": max_tokens, "dtype": dtype}
        return [Component(f"{QwenImageTextEncoder.__module__}.{QwenImageTextEncoder.__qualname__}", arguments)]

    @classmethod
    def outline(
        cls,
        device: torch.device,
        tokens: int,
        repository: str,
        max_tokens: int = 512,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
        **_: object,
    ) -> TeacherOutline | None:
        """Return the teacher without its weights, or None if its size is not known."""
        return qwen_image_outline(
            repository, min(tokens, max_tokens), TEMPLATE_PREFIX_TOKENS, getattr(torch, dtype), device
        )

    @contextmanager
    def few_step(self) -> Iterator[None]:
        """Activate the few-step LoRA inside the context. Contexts can be nested."""
        if not self.has_few_step:
            raise RunError("the teacher has no few-step LoRA; set lora in its init_args")
        self._few_step_depth += 1
        activate_adapter(self.transformer, FEW_STEP_ADAPTER)
        try:
            yield
        finally:
            self._few_step_depth -= 1
            if not self._few_step_depth:
                activate_adapter(self.transformer, None)

    def check_latents(self, autoencoder: Component) -> None:
        """Raise ``ConfigError`` if the autoencoder has a ``kind`` other than qwen_image."""
        kind = autoencoder.init_args.get("kind", "qwen_image")
        if kind != "qwen_image":
            raise ConfigError(f"autoencoder: kind {kind} does not match the teacher, which requires kind qwen_image")

    def condition(self, captions: Sequence[str]) -> TextEmbeddings:
        """Encode B captions to the last hidden states of the text encoder, on its device.

        Raises:
            RunError: The text encoder has not been loaded.
        """
        return self._embeddings(self._text_encoder().encode(captions))

    def condition_on(self, text: Sequence[TextTokens], blank: Sequence[TextTokens]) -> TextEmbeddings:
        """Return the condition for stored tokens of B captions and of the empty caption."""
        return self._embeddings(text[0])._replace(blank=blank[0].embeddings.to(self.dtype))

    def _embeddings(self, tokens: TextTokens) -> TextEmbeddings:
        return TextEmbeddings(tokens.embeddings.to(self.dtype), None if bool(tokens.mask.all()) else tokens.mask)

    def _text_encoder(self) -> QwenImageTextEncoder:
        if self.text is None:
            raise RunError("the teacher's text encoder is not loaded; set load_text to true in its init_args")
        return self.text

    @torch.no_grad()
    def predict(self, x_t: Tensor, time: Tensor, condition: TextEmbeddings, guidance: float = 1.0) -> TeacherOutput:
        """Implement ``Teacher.predict`` for sides h and w that are multiples of ``patch_size``."""
        grid = [side // self.patch_size for side in x_t.shape[-2:]]
        if x_t.shape[1] != self.channels or any(side % self.patch_size for side in x_t.shape[-2:]):
            raise ValueError(
                f"latents must have {self.channels} channels and sides that are multiples of {self.patch_size}, "
                f"not {tuple(x_t.shape)}"
            )
        tokens = F.pixel_unshuffle(x_t, self.patch_size).flatten(2).transpose(1, 2).to(self.dtype)
        with torch.autocast(x_t.device.type, enabled=False):
            prediction, features = self._predict(tokens, time, condition, grid)
            if guidance != 1.0:
                # Run a second pass instead of doubling the batch. In a single batch, the shorter text would be padded,
                # and padding requires a mask, which slows down attention.
                negative = self._unconditional_for(condition, len(x_t), x_t.device)
                unconditional, _ = self._predict(tokens, time, negative, grid)
                prediction = renormalized_guidance(prediction, unconditional, guidance)
        velocity = F.pixel_shuffle(torch.unflatten(prediction.transpose(1, 2), 2, grid), self.patch_size)
        return TeacherOutput(velocity, features.float())

    def to(self, device: torch.device) -> Self:
        """Move the transformer and the text encoder to a device in place."""
        self.transformer.to(device)
        if self.text is not None:
            self.text.to(device)
        return self

    def shard(self, mesh: DeviceMesh) -> None:
        """Shard the transformer and the text encoder across ranks, block by block, unless they are already sharded."""
        if isinstance(next(self.transformer.parameters()), DTensor):
            return
        networks = [self.transformer] if self.text is None else [self.transformer, self.text.model]
        for block in [*self.transformer.transformer_blocks, *(self.text.model.layers if self.text else ())]:
            fully_shard(block, mesh=mesh)
        # The roots must also free their weights after the forward pass, because there is no backward pass to free them.
        for root in networks:
            fully_shard(root, mesh=mesh, reshard_after_forward=True)

    def _unconditional_for(self, condition: TextEmbeddings, count: int, device: torch.device) -> TextEmbeddings:
        if condition.blank is not None:
            return TextEmbeddings(condition.blank.expand(count, -1, -1), None)
        if device not in self._unconditional:
            self._unconditional[device] = self.condition([EMPTY_PROMPT])
        return TextEmbeddings(self._unconditional[device].embeddings.expand(count, -1, -1), None)

    def _predict(self, tokens: Tensor, time: Tensor, text: TextEmbeddings, grid: list[int]) -> tuple[Tensor, Tensor]:
        """Run the transformer.

        The output is the velocity noise - x_0 with t = sigma, because diffusers' FlowMatchEulerDiscreteScheduler
        defines x = sigma noise + (1 - sigma) x_0 and steps to x + (sigma' - sigma) v.

        Returns:
            Packed velocity (B, N, C p^2) in float32, where p is the patch size, and the image stream (B, N, F) after
            the last block.
        """
        features: list[Tensor] = []

        def save_features(_block: nn.Module, _inputs: Any, streams: tuple[Tensor, Tensor]) -> None:
            features.append(streams[1])  # (text, image)

        hook = self.transformer.transformer_blocks[-1].register_forward_hook(save_features)
        try:
            (prediction,) = self.transformer(
                hidden_states=tokens,
                timestep=time,
                encoder_hidden_states=text.embeddings,
                encoder_hidden_states_mask=text.mask,
                img_shapes=[[(1, *grid)]] * len(tokens),
                return_dict=False,
            )
        finally:
            hook.remove()
        return prediction.float(), features[0]


def renormalized_guidance(cond: Tensor, uncond: Tensor, guidance: float) -> Tensor:
    """Apply classifier-free guidance and rescale every token to its norm in ``cond``, as in QwenImagePipeline."""
    combined = uncond + guidance * (cond - uncond)
    norm = combined.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    rescaled: Tensor = combined * (cond.norm(dim=-1, keepdim=True) / norm)
    return rescaled


def _load_transformer(repository: str, revision: str | None, dtype: torch.dtype) -> Any:
    from diffusers import QwenImageTransformer2DModel  # takes seconds and is needed only here

    description = f"a {TRANSFORMER_CLASS}"
    source: dict[str, Any] = {"subfolder": "transformer", "revision": revision}
    with explain_load_errors(description, repository):
        config = QwenImageTransformer2DModel.load_config(repository, **source)
    if config.get("_class_name") != TRANSFORMER_CLASS:
        raise RunError(f"{repository}: transformer/ contains a {config.get('_class_name')}, not {description}")
    # These settings belong to variants of Qwen-Image that need inputs other than an image and text.
    for name in ("guidance_embeds", "use_additional_t_cond", "use_layer3d_rope"):
        if config.get(name):
            raise RunError(f"{repository}: not Qwen-Image's text-to-image transformer: its config sets {name}")
    with explain_load_errors(description, repository):
        # By default, from_pretrained does not first initialize 40 GB of random weights.
        model, report = QwenImageTransformer2DModel.from_pretrained(
            repository, **source, torch_dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    require_complete(description, repository, report["missing_keys"])
    return model
