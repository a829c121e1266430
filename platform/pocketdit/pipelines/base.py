"""The base class of the pipelines, with their components, prompts, guidance, and sampling loop."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage, DiffusionPipeline, SchedulerMixin
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders import SanaLoraLoaderMixin
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pocketdit.diffusion.guidance import guided_velocity
from pocketdit.encoders.conditioning import unconditional
from pocketdit.encoders.contract import TextTokens
from pocketdit.encoders.normalized_latents import decode_normalized, encode_normalized
from pocketdit.pipelines.embedded import DCTAutoencoderModel, HashedTextModel, TinyDecoderModel
from pocketdit.pipelines.prompts import encode_prompts, pad_alike, repeat_tokens
from pocketdit.pipelines.references import load_reference
from pocketdit.pipelines.transformer import PocketDiTTransformer2DModel

Generator = torch.Generator | Sequence[torch.Generator] | None
StepCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]

TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
PIXEL_FACTOR = 8
"""Height and width in pixels of the image region that a latent position represents, in all supported autoencoders."""


class Request(NamedTuple):
    """The prompts and settings of a call, which have been checked and completed with defaults."""

    text: list[TextTokens]
    """Tokens of the prompts, repeated for every image of a prompt."""
    negative: list[TextTokens]
    """Tokens of the negative prompts, or hidden tokens if there are no negative prompts."""
    guidance: float
    steps: int
    height: int
    width: int
    images: int


class PocketDiTPipelineBase(DiffusionPipeline, SanaLoraLoaderMixin):
    """Components and methods of all pipelines.

    LoRA files are loaded with the loader of ``SanaPipeline``, which works for any pipeline with a ``transformer``.

    Args:
        transformer: The network.
        scheduler: A scheduler for flow matching.
        vae: The autoencoder.
        text_encoder: The first text encoder.
        tokenizer: The tokenizer of the first text encoder, if it needs one.
        text_encoder_2: The second text encoder, if any.
        tokenizer_2: The tokenizer of the second text encoder, if it needs one.
        text_encoder_3: The third text encoder, if any.
        tokenizer_3: The tokenizer of the third text encoder, if it needs one.
        decoder: A tiny decoder that replaces the autoencoder's decoder.
        max_tokens: Number of tokens per prompt, for each text encoder.
        steps: Default number of sampling steps.
        guidance: Default guidance scale.
        size: Default height and width of images in pixels.
        references: Components to load from other repositories (see ``load_reference``), by name.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->text_encoder_3->transformer->decoder->vae"
    _optional_components = [*TEXT_ENCODERS, *TOKENIZERS, "vae", "decoder"]  # noqa: RUF012  (diffusers expects a list)
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(
        self,
        transformer: PocketDiTTransformer2DModel,
        scheduler: SchedulerMixin,
        vae: DCTAutoencoderModel | AutoencoderKL | AutoencoderKLQwenImage | None = None,
        text_encoder: HashedTextModel | PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        text_encoder_2: HashedTextModel | PreTrainedModel | None = None,
        tokenizer_2: PreTrainedTokenizerBase | None = None,
        text_encoder_3: HashedTextModel | PreTrainedModel | None = None,
        tokenizer_3: PreTrainedTokenizerBase | None = None,
        decoder: TinyDecoderModel | None = None,
        max_tokens: list[int] | None = None,
        steps: int = 28,
        guidance: float = 4.0,
        size: list[int] | None = None,
        references: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        components: dict[str, Any] = {
            "transformer": transformer,
            "scheduler": scheduler,
            "vae": vae,
            "text_encoder": text_encoder,
            "tokenizer": tokenizer,
            "text_encoder_2": text_encoder_2,
            "tokenizer_2": tokenizer_2,
            "text_encoder_3": text_encoder_3,
            "tokenizer_3": tokenizer_3,
            "decoder": decoder,
        }
        for name, reference in (references or {}).items():
            if components[name] is None:
                components[name] = load_reference(name, reference)
        self.register_modules(**components)
        self.register_to_config(
            max_tokens=max_tokens or [],
            steps=steps,
            guidance=guidance,
            size=size or [256, 256],
            references=references or {},
        )
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.pixel_multiple)
        self.mask_processor = VaeImageProcessor(
            vae_scale_factor=self.pixel_multiple, do_normalize=False, do_binarize=True, do_convert_grayscale=True
        )

    @classmethod
    def _dict_from_json_file(cls, json_file: Any) -> dict[str, Any]:
        """Read a configuration for this class.

        A published ``model_index.json`` also names ``pipeline.py``, which defines the class where PocketDiT is not
        installed. This entry is removed, because diffusers would ask for ``trust_remote_code`` although this class does
        not run that file.
        """
        values: dict[str, Any] = super()._dict_from_json_file(json_file)
        if isinstance(values.get("_class_name"), list):
            values["_class_name"] = cls.__name__
        return values

    @property
    def pixel_multiple(self) -> int:
        """The number of pixels of which both sides of an image must be multiples."""
        spec = self._network.spec
        return PIXEL_FACTOR * spec.latent_multiple

    @property
    def _network(self) -> PocketDiTTransformer2DModel:
        transformer: Any = self.transformer
        network: PocketDiTTransformer2DModel = getattr(transformer, "_orig_mod", transformer)  # may be compiled
        return network

    @property
    def widths(self) -> tuple[float, ...]:
        """Widths of the sub-networks, as fractions of the full width."""
        return tuple(sorted(self._network.spec.widths))

    def set_width(self, width: float) -> Self:
        """Select the sub-network that samples images. All widths share their weights, so nothing is copied.

        Args:
            width: One of ``widths``.

        Raises:
            ValueError: The network does not have this width.
        """
        self._network.set_width(width)
        return self

    @torch.no_grad()
    def encode_prompt(self, prompt: str | Sequence[str], device: torch.device | None = None) -> list[TextTokens]:
        """Encode prompts, and return one ``TextTokens`` per text encoder."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        device = device or self._execution_device
        encoders = [getattr(self, name) for name in TEXT_ENCODERS]
        tokenizers = [getattr(self, name) for name in TOKENIZERS]
        return [
            encode_prompts(encoder, tokenizer, prompts, limit, device)
            for encoder, tokenizer, limit in zip(encoders, tokenizers, self.config.max_tokens, strict=False)
            if encoder is not None
        ]

    def check_request(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None,
        height: int | None,
        width: int | None,
        steps: int | None,
        guidance: float | None,
        images_per_prompt: int,
        callback_inputs: Sequence[str],
    ) -> Request:
        """Check the arguments of a call, replace missing ones with defaults, and encode the prompts.

        Raises:
            ValueError: An argument is invalid.
        """
        height, width = height or self.config.size[0], width or self.config.size[1]
        multiple = self.pixel_multiple
        if height < multiple or width < multiple or height % multiple or width % multiple:
            raise ValueError(f"height and width must be multiples of {multiple} pixels, not {height} and {width}")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts or not all(isinstance(text, str) for text in prompts):
            raise ValueError("prompt must be a string or a list of strings")
        if unknown := [name for name in callback_inputs if name not in self._callback_tensor_inputs]:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs: {unknown[0]!r} is not in {self._callback_tensor_inputs}"
            )
        steps = self.config.steps if steps is None else steps
        if steps < 1:
            raise ValueError(f"num_inference_steps must be at least 1, not {steps}")
        guidance = self.config.guidance if guidance is None else guidance
        text = self.encode_prompt(prompts)
        negative = unconditional(text)
        if negative_prompt is not None and guidance != 1:
            texts = [negative_prompt] * len(prompts) if isinstance(negative_prompt, str) else list(negative_prompt)
            if len(texts) != len(prompts):
                raise ValueError(f"negative_prompt has {len(texts)} strings for {len(prompts)} prompts")
            text, negative = pad_alike(text, self.encode_prompt(texts))
        repeated = repeat_tokens(text, images_per_prompt), repeat_tokens(negative, images_per_prompt)
        return Request(*repeated, guidance, steps, height, width, len(prompts) * images_per_prompt)

    def initial_noise(self, request: Request, generator: Generator, latents: Tensor | None) -> Tensor:
        """Return the initial noise (B, C, h, w) on the pipeline's device: ``latents``, or a random draw.

        Raises:
            ValueError: ``latents`` has the wrong shape.
        """
        channels = self._network.spec.latent_channels
        shape = (request.images, channels, request.height // PIXEL_FACTOR, request.width // PIXEL_FACTOR)
        device = self._execution_device
        if latents is None:
            noise: Tensor = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
            return noise
        if tuple(latents.shape) != shape:
            raise ValueError(f"latents must have the shape {shape}, not {tuple(latents.shape)}")
        return latents.to(device, torch.float32)

    def denoise(
        self,
        request: Request,
        latents: Tensor,
        timesteps: Tensor,
        callback: StepCallback | None,
        callback_inputs: Sequence[str],
        after_step: Callable[[Tensor, int], Tensor] | None = None,
    ) -> Tensor:
        """Run the sampling loop.

        Args:
            request: Prompts and settings.
            latents: Noisy latents (B, C, h, w) at the first time step.
            timesteps: Time steps of the scheduler.
            callback: See ``callback_on_step_end`` of the pipelines.
            callback_inputs: See ``callback_on_step_end_tensor_inputs`` of the pipelines.
            after_step: Function that receives the latents and the step index after every step, and returns new latents.
        """
        velocity = guided_velocity(self._velocity, request.text, request.negative, request.guidance)
        total = self.scheduler.config.num_train_timesteps
        self._interrupt = False
        with self.progress_bar(total=len(timesteps)) as progress:
            for step, timestep in enumerate(timesteps):
                if self._interrupt:
                    continue
                time = (timestep / total).float().expand(len(latents)).to(latents.device)
                latents = self.scheduler.step(velocity(latents, time), timestep, latents, return_dict=False)[0]
                if after_step is not None:
                    latents = after_step(latents, step)
                if callback is not None:
                    available = {"latents": latents}
                    inputs = {name: available[name] for name in callback_inputs}
                    latents = (callback(self, step, timestep, inputs) or {}).get("latents", latents)
                progress.update()
        return latents

    def _velocity(self, x: Tensor, time: Tensor, text: Sequence[TextTokens]) -> Tensor:
        embeddings, masks = [tokens.embeddings for tokens in text], [tokens.mask for tokens in text]
        velocity: Tensor = self.transformer(x, time, embeddings, masks, return_dict=False)[0]
        return velocity

    @property
    def interrupt(self) -> bool:
        """Whether to skip the remaining steps, which a callback can request with ``pipe._interrupt = True``."""
        return self._interrupt

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) in [-1, 1] to normalized latents (B, C, h, w)."""
        images = images.to(self._execution_device, torch.float32)
        if isinstance(self.vae, DCTAutoencoderModel):
            latents: Tensor = self.vae.encode(images)
            return latents
        return encode_normalized(self.vae, images)

    def output(self, latents: Tensor, output_type: str, return_dict: bool) -> Any:
        """Decode latents, and return the images in the requested format."""
        if output_type == "latent":
            images: Any = latents
        else:
            codec: Any = self.vae if self.decoder is None else self.decoder
            native = self.decoder is None and not isinstance(self.vae, DCTAutoencoderModel)
            decoded = decode_normalized(codec, latents) if native else codec.decode(latents)
            images = self.image_processor.postprocess(decoded.float(), output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)
