"""SnapGen's U-Net (arXiv 2412.09619), the convolutional network with which the paper compares its ladder (Fig. 3).

SnapGen's code has not been published. The layers are taken from diffusers' DreamLite, an open network based on SnapGen.

Shape letters: B = batch, C = latent channels, h x w = latent sides, L = text tokens.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pocketdit.backbones.dit import TextProjection, precondition
from pocketdit.backbones.spec import FULL_WIDTH, UNetSpec
from pocketdit.encoders.contract import TextTokens


class UNet(nn.Module):
    """Predicts the rectified-flow velocity v(x_t, t, text) with the same interface as ``ElasticDiT``, but at one width.

    Args:
        spec: Description of the network.
    """

    def __init__(self, spec: UNetSpec) -> None:
        # Importing diffusers takes seconds, and most runs do not train a U-Net.
        from diffusers.models.unets.unet_dreamlite import DreamLiteUNetModel

        super().__init__()
        self.spec = spec
        self.text = TextProjection(spec.text_inputs, spec.text_width)
        # Self-attention is limited to the lowest resolution, and the last stage has no transformer layers.
        high, low, last = "DreamLiteCrossAttnNoSelfAttn", "DreamLiteCrossAttn", "DreamLite"
        inner = len(spec.channels) - 1
        self.unet = DreamLiteUNetModel(
            in_channels=spec.latent_channels,
            out_channels=spec.latent_channels,
            down_block_types=(*[f"{high}DownBlock2D"] * inner, f"{low}DownBlock2D"),
            up_block_types=(f"{low}UpBlock2D", *[f"{high}UpBlock2D"] * (inner - 1), f"{last}UpBlock2D"),
            block_out_channels=spec.channels,
            transformer_layers_per_block=spec.transformer_layers,
            # Despite its name, this argument is the number of heads.
            attention_head_dim=tuple(size // spec.head_dim for size in spec.channels),
            cross_attention_dim=spec.text_width,
            ff_mult=spec.ffn_ratio,
            num_kv_heads=1,
            qk_norm="rms_norm",
            use_sep_conv=True,
            use_linear_projection=True,
        )
        if spec.keep_residual:
            for block in self.blocks():
                if not block.use_self_attention:
                    block.norm1 = nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the output to zero, as in ``ElasticDiT``. Other layers keep their default initialization."""
        nn.init.normal_(self.text.null, std=1.0)
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def blocks(self) -> Iterator[nn.Module]:
        """Yield the transformer blocks."""
        from diffusers.models.transformers.transformer_2d_dreamlite import BasicTransformerBlockDreamLite

        for module in self.unet.modules():
            if isinstance(module, BasicTransformerBlockDreamLite):
                yield module

    def use_gradient_checkpointing(self, on: bool = True) -> None:
        """Set whether to store only the blocks' inputs for the backward pass and recompute everything else."""
        if on:
            self.unet.enable_gradient_checkpointing()
        else:
            self.unet.disable_gradient_checkpointing()

    def forward(self, x: Tensor, time: Tensor, text: Sequence[TextTokens], width: float = FULL_WIDTH) -> Tensor:
        """Predict the velocity (B, C, h, w).

        Args:
            x: Noisy latents x_t, (B, C, h, w).
            time: Times (B,) in [0, 1], where 0 is data.
            text: One ``TextTokens`` per text encoder.
            width: Must be 1.

        Raises:
            ValueError: h or w is not a multiple of ``spec.latent_multiple``, or the width is not 1.
        """
        self.spec.hidden_size(width)
        multiple = self.spec.latent_multiple
        if any(side % multiple for side in x.shape[-2:]):
            raise ValueError(f"latent sides {x.shape[-2]}x{x.shape[-1]} must be multiples of {multiple}")
        tokens, mask = self.text(text)
        if not self.spec.latent_std:
            return self.predict(x, time, tokens, mask)
        c_in, c_skip, c_out = precondition(time, self.spec.latent_std)
        return c_skip * x + c_out * self.predict(c_in * x, time, tokens, mask)

    def predict(self, x: Tensor, time: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Run the layers on projected text tokens (B, L, text width) with a mask (B, L), True for visible tokens."""
        output: Tensor = self.unet(
            x, 1000.0 * time, tokens, encoder_attention_mask=mask.to(torch.float32), return_dict=False
        )[0]
        return output
