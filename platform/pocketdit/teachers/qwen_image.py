"""Qwen-Image (arXiv 2508.02324) as teacher, by way of diffusers; with the LoRA of Qwen-Image-Lightning a few-step one.

The student's latents must be those of Qwen-Image's own autoencoder (``encoders.vae``, kind "qwen_image").
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from pocketdit.backbones.lora import activate
from pocketdit.config.component import Component
from pocketdit.encoders.checkpoints import loading, require_complete
from pocketdit.errors import ConfigError, RunError
from pocketdit.teachers.contract import TeacherOutput
from pocketdit.teachers.lightning_lora import FEW_STEP, add_lora

# As diffusers' QwenImagePipeline has it: the text encoder sees the template, the transformer what follows DROPPED
# tokens, which is the caption and the template's end.
TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
DROPPED = 34
MOST_TOKENS = 1024
# The pipeline has no default negative prompt; its documentation and Qwen-Image's examples give one space as the
# empty one, and after the template that is another text than "".
BLANK = " "
TRANSFORMER, TEXT_ENCODER = "QwenImageTransformer2DModel", "a Qwen2.5-VL text encoder"


class Text(NamedTuple):
    """Captions as the transformer takes them."""

    embeddings: Tensor
    """(B, L, width), in the teacher's dtype; zeros where the mask is False. L is that of the longest caption."""
    mask: Tensor | None
    """(B, L), bool: True is a real token. None: all are, and attention needs no mask."""


class QwenImageTeacher:
    """Qwen-Image's transformer and text encoder, frozen.

    ``repository``: a folder, or a name on the Hugging Face hub such as Qwen/Qwen-Image, with ``transformer/``,
    ``text_encoder/`` and ``tokenizer/``, weights in safetensors; ``revision``: of it on the hub. ``lora``: a
    .safetensors file, a folder, or a hub repository such as lightx2v/Qwen-Image-Lightning; ``lora_file`` names the
    file in it, and may be left out in a folder that holds one. ``max_tokens``: of a caption with the template's end, up
    to 1024; the rest is cut off. ``dtype``: of weights and arithmetic; the results are float32.

    Guidance is renormalised as in diffusers' pipeline. The LoRA lies beside the weights, of which there is one copy.

    Raises:
        RunError: a checkpoint is missing, incomplete or of another kind; the LoRA does not fit.
    """

    def __init__(
        self,
        repository: str,
        lora: str | None = None,
        lora_file: str | None = None,
        revision: str | None = None,
        max_tokens: int = 512,
        dtype: Literal["float32", "bfloat16"] = "bfloat16",
    ) -> None:
        if not 0 < max_tokens <= MOST_TOKENS:
            raise ConfigError(f"max_tokens {max_tokens}: Qwen-Image takes 1 to {MOST_TOKENS} tokens")
        # Before anything heavy: a wrong name should not cost minutes.
        adapter = None if lora is None else _find_lora(lora, lora_file)
        self.max_tokens = max_tokens
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.tokenizer = _load_tokenizer(repository, revision)
        self.transformer = _load_transformer(repository, revision, self.dtype)
        self.text_encoder = _load_text_encoder(repository, revision, self.dtype)
        config, width = self.transformer.config, self.text_encoder.config.hidden_size
        if width != config.joint_attention_dim:
            raise RunError(f"{repository}: texts of width {width} for a transformer of {config.joint_attention_dim}")
        if adapter is not None:
            add_lora(self.transformer, adapter)
        # eval: a LoRA may come with dropout.
        self.transformer.requires_grad_(False).eval()
        self.text_encoder.requires_grad_(False).eval()
        self.feature_width = int(self.transformer.inner_dim)
        self.patch_size = int(config.patch_size)
        self.channels = int(config.in_channels) // self.patch_size**2
        self.has_few_step = adapter is not None
        self._few_steps = 0
        self._unconditional: dict[torch.device, Text] = {}

    @contextmanager
    def few_step(self) -> Iterator[None]:
        """Raises ``RunError`` without a LoRA. May be nested."""
        if not self.has_few_step:
            raise RunError("this teacher has no few-step LoRA: give it lora")
        self._few_steps += 1
        activate(self.transformer, FEW_STEP)
        try:
            yield
        finally:
            self._few_steps -= 1
            if not self._few_steps:
                activate(self.transformer, None)

    def check_latents(self, autoencoder: Component) -> str | None:
        kind = autoencoder.init_args.get("kind", "qwen_image")
        return None if kind == "qwen_image" else f"Qwen-Image's latents are of kind qwen_image, not {kind}"

    @torch.no_grad()
    def condition(self, captions: Sequence[str]) -> Text:
        """B captions -> the last hidden states of the text encoder, on its device."""
        # Padding on the right is behind what causal attention sees, so a caption does not depend on its batch.
        batch = self.tokenizer(
            [TEMPLATE.format(caption if caption.strip() else BLANK) for caption in captions],
            padding=True,
            truncation=True,
            max_length=self.max_tokens + DROPPED,
            return_tensors="pt",
        )
        whole = bool(batch.attention_mask[:, DROPPED:].all())
        batch = batch.to(self.text_encoder.device)
        with torch.autocast(self.text_encoder.device.type, enabled=False):
            output = self.text_encoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        mask = batch.attention_mask[:, DROPPED:].bool()
        embeddings = output.last_hidden_state[:, DROPPED:].masked_fill(~mask[..., None], 0)
        return Text(embeddings, None if whole else mask)

    @torch.no_grad()
    def predict(self, x_t: Tensor, time: Tensor, condition: Text, guidance: float = 1.0) -> TeacherOutput:
        """As the contract says; h and w are multiples of ``patch_size``."""
        grid = [side // self.patch_size for side in x_t.shape[-2:]]
        if x_t.shape[1] != self.channels or any(side % self.patch_size for side in x_t.shape[-2:]):
            wanted = f"{self.channels} channels and sides that are multiples of {self.patch_size}"
            raise ValueError(f"latents must have {wanted}, not {tuple(x_t.shape)}")
        tokens = F.pixel_unshuffle(x_t, self.patch_size).flatten(2).transpose(1, 2).to(self.dtype)
        with torch.autocast(x_t.device.type, enabled=False):
            prediction, features = self._predict(tokens, time, condition, grid)
            if guidance != 1.0:
                # A second pass rather than a doubled batch: neither text is padded for the other's sake, and padding
                # would cost the faster attention without a mask.
                negative = self._unconditional_for(len(x_t), x_t.device)
                without, _ = self._predict(tokens, time, negative, grid)
                prediction = guided(prediction, without, guidance)
        velocity = F.pixel_shuffle(prediction.transpose(1, 2).unflatten(2, grid), self.patch_size)
        return TeacherOutput(velocity, features.float())

    def to(self, device: torch.device) -> Self:
        self.transformer.to(device)
        self.text_encoder.to(device)
        return self

    def shard(self, mesh: DeviceMesh) -> None:
        """A block gathers its weights when it runs. Roots free theirs too: there is no backward pass that would."""
        if isinstance(next(self.transformer.parameters()), DTensor):
            return
        for block in [*self.transformer.transformer_blocks, *self.text_encoder.layers]:
            fully_shard(block, mesh=mesh)
        for root in (self.transformer, self.text_encoder):
            fully_shard(root, mesh=mesh, reshard_after_forward=True)

    def _unconditional_for(self, count: int, device: torch.device) -> Text:
        if device not in self._unconditional:
            self._unconditional[device] = self.condition([BLANK])
        return Text(self._unconditional[device].embeddings.expand(count, -1, -1), None)

    def _predict(self, tokens: Tensor, time: Tensor, text: Text, grid: list[int]) -> tuple[Tensor, Tensor]:
        """Packed velocity (B, N, C p p), float32, and the image stream that leaves the last block (B, N, F).

        The velocity is noise - x_0, with t = sigma: diffusers' FlowMatchEulerDiscreteScheduler has
        x = sigma noise + (1 - sigma) x_0 and steps by x + (sigma' - sigma) v.
        """
        kept: list[Tensor] = []

        def keep(_block: nn.Module, _inputs: Any, streams: tuple[Tensor, Tensor]) -> None:
            kept.append(streams[1])  # (text, image)

        hook = self.transformer.transformer_blocks[-1].register_forward_hook(keep)
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
        return prediction.float(), kept[0]


def guided(cond: Tensor, uncond: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance whose result has, token by token, the norm of ``cond``: as in QwenImagePipeline."""
    combined = uncond + guidance * (cond - uncond)
    norm = combined.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return combined * (cond.norm(dim=-1, keepdim=True) / norm)


def _load_transformer(repository: str, revision: str | None, dtype: torch.dtype) -> Any:
    from diffusers import QwenImageTransformer2DModel  # takes seconds, and only this teacher needs it

    what = f"a {TRANSFORMER}"
    source: dict[str, Any] = {"subfolder": "transformer", "revision": revision}
    with loading(what, repository):
        stored = QwenImageTransformer2DModel.load_config(repository, **source)
    if stored.get("_class_name") != TRANSFORMER:
        raise RunError(f"{repository}: transformer/ holds a {stored.get('_class_name')}, not {what}")
    # Relatives of Qwen-Image that want more than a picture and a text.
    for name in ("guidance_embeds", "use_additional_t_cond", "use_layer3d_rope"):
        if stored.get(name):
            raise RunError(f"{repository}: not Qwen-Image's text-to-image transformer: its config has {name}")
    with loading(what, repository):
        # By default it does not fill 40 GB with random numbers first.
        model, report = QwenImageTransformer2DModel.from_pretrained(
            repository, **source, torch_dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    require_complete(TRANSFORMER, repository, report["missing_keys"])
    return model


def _load_text_encoder(repository: str, revision: str | None, dtype: torch.dtype) -> Any:
    """The language model of Qwen2.5-VL, after its final RMSNorm; vision tower and head for logits are let go."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    with loading(TEXT_ENCODER, repository):
        model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            repository,
            subfolder="text_encoder",
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    require_complete(TEXT_ENCODER, repository, report["missing_keys"])
    return model.model.language_model


def _load_tokenizer(repository: str, revision: str | None) -> Any:
    """The tokenizer, after a look at what the text encoder is."""
    from transformers import AutoConfig, Qwen2Tokenizer

    with loading(TEXT_ENCODER, repository):
        kind = AutoConfig.from_pretrained(repository, subfolder="text_encoder", revision=revision).model_type
    if kind != "qwen2_5_vl":
        raise RunError(f"{repository}: text_encoder/ holds a model of type {kind}, not {TEXT_ENCODER}")
    with loading(f"the tokenizer of {TEXT_ENCODER}", repository):
        tokenizer = Qwen2Tokenizer.from_pretrained(
            repository, subfolder="tokenizer", revision=revision, padding_side="right", truncation_side="right"
        )
    # Where its files are missing, transformers builds one that knows its special tokens only.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise RunError(f"{repository}: the tokenizer has no vocabulary; tokenizer/ lacks vocab.json or merges.txt")
    return tokenizer


def _find_lora(lora: str, name: str | None) -> Path:
    what, path = "a few-step LoRA", Path(lora)
    if path.is_dir():
        files = sorted(path.glob("*.safetensors")) if name is None else [path / name]
        if len(files) != 1:
            raise RunError(f"{lora}: holds {len(files)} .safetensors files; name one with lora_file")
        path = files[0]
    elif not path.is_file() and path.suffix != ".safetensors":
        if name is None:
            raise RunError(f"{lora}: no such file or folder; if it is on the Hugging Face hub, give lora_file too")
        from huggingface_hub import hf_hub_download

        with loading(what, lora):
            path = Path(hf_hub_download(lora, name))
    if not path.is_file() or path.suffix != ".safetensors":
        raise RunError(f"{path}: no such .safetensors file; it should hold {what}")
    return path
