"""Tests for the published autoencoders, using tiny checkpoints with random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketdit.config.component import Component
from pocketdit.config.declared import latent_factor
from pocketdit.encoders.contract import Autoencoder
from pocketdit.encoders.vae import AutoencoderKind, DiffusersAutoencoder
from pocketdit.errors import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"


def save(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)


def write_checkpoints(folder: Path) -> None:
    """Write tiny checkpoints with random weights. Only "flux" has the folder structure of a pipeline."""
    from diffusers import AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLQwenImage

    torch.manual_seed(0)
    for kind, scale, shift in (("flux/vae", 0.3611, 0.1159), ("sd3", 1.5305, 0.0609)):
        model = AutoencoderKL(
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16,
            norm_num_groups=4,
            layers_per_block=1,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=scale,
            shift_factor=shift,
        )
        save(model, folder / kind)
    flux2 = AutoencoderKLFlux2(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, layers_per_block=1)
    flux2.bn.running_mean.copy_(torch.randn(128))
    flux2.bn.running_var.copy_(0.5 + torch.rand(128))
    save(flux2, folder / "flux2")
    qwen_image = AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    save(qwen_image, folder / "qwen_image")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("autoencoders")
    write_checkpoints(folder)
    return folder


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_flux_latents_are_shifted_and_scaled(checkpoints: Path, images: torch.Tensor) -> None:
    from diffusers import AutoencoderKL

    ours = DiffusersAutoencoder(str(checkpoints / "flux"), "flux")
    theirs = AutoencoderKL.from_pretrained(checkpoints / "flux" / "vae").eval()
    with torch.no_grad():
        mode = theirs.encode(images).latent_dist.mode()
        decoded = theirs.decode(mode).sample.clamp(-1, 1)
    latents = ours.encode(images)
    torch.testing.assert_close(latents, (mode - 0.1159) * 0.3611)
    torch.testing.assert_close(ours.decode(latents), decoded, atol=1e-5, rtol=0)


def test_qwen_image_latents_are_normalized_per_channel(checkpoints: Path, images: torch.Tensor) -> None:
    from diffusers import AutoencoderKLQwenImage

    ours = DiffusersAutoencoder(str(checkpoints / "qwen_image"), "qwen_image")
    theirs = AutoencoderKLQwenImage.from_pretrained(checkpoints / "qwen_image").eval()
    with torch.no_grad():
        mode = theirs.encode(images[:, :, None]).latent_dist.mode()
        decoded = theirs.decode(mode).sample[:, :, 0]
    latents = ours.encode(images)
    torch.testing.assert_close(latents[:, 0], (mode[:, 0, 0] + 0.7571) / 2.8184)
    torch.testing.assert_close(latents[:, 15], (mode[:, 15, 0] + 0.2921) / 1.9160)
    torch.testing.assert_close(ours.decode(latents), decoded, atol=1e-5, rtol=0)


def test_sd3_latents_are_shifted_and_scaled(checkpoints: Path, images: torch.Tensor) -> None:
    from diffusers import AutoencoderKL

    ours = DiffusersAutoencoder(str(checkpoints / "sd3"), "sd3")
    with torch.no_grad():
        mode = AutoencoderKL.from_pretrained(checkpoints / "sd3").eval().encode(images).latent_dist.mode()
    torch.testing.assert_close(ours.encode(images), (mode - 0.0609) * 1.5305)
    with pytest.raises(
        UserError, match=r"not flux's autoencoder: its scaling factor is 1.5305, not 0.3611; set another"
    ):
        DiffusersAutoencoder(str(checkpoints / "sd3"), "flux")


def test_flux2_latents_are_normalized_as_in_its_pipeline(checkpoints: Path, images: torch.Tensor) -> None:
    """The latents must equal the normalized patches that the pipeline computes from reference images."""
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline

    ours = DiffusersAutoencoder(str(checkpoints / "flux2"), "flux2")
    theirs = AutoencoderKLFlux2.from_pretrained(checkpoints / "flux2").eval()
    pipeline = Flux2KleinPipeline(None, theirs, None, None, None)
    with torch.no_grad():
        patches = pipeline._encode_vae_image(images, None)
        decoded = theirs.decode(theirs.encode(images).latent_dist.mode()).sample.clamp(-1, 1)
    latents = ours.encode(images)
    assert latents.shape == (2, 32, 4, 8)
    torch.testing.assert_close(torch.nn.functional.pixel_unshuffle(latents, 2), patches)
    torch.testing.assert_close(ours.decode(latents), decoded, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="multiples of 16"):
        ours.encode(images[..., :24])


@pytest.mark.parametrize("kind", ["flux", "qwen_image"])
def test_autoencoder_satisfies_the_protocol(checkpoints: Path, images: torch.Tensor, kind: AutoencoderKind) -> None:
    module = DiffusersAutoencoder(str(checkpoints / kind), kind, dtype="bfloat16").train()
    autoencoder: Autoencoder = module
    assert (autoencoder.channels, autoencoder.factor) == (16, 8)
    latents = autoencoder.encode(images)
    assert latents.shape == (2, 16, 4, 8)
    assert latents.dtype == torch.float32
    decoded = autoencoder.decode(50 * latents)
    assert decoded.shape == images.shape
    assert decoded.dtype == torch.float32
    assert decoded.abs().max() <= 1
    assert next(module.parameters()).dtype == torch.bfloat16
    assert not any(weight.requires_grad for weight in module.parameters())
    assert not any(part.training for part in module.modules())
    with pytest.raises(ValueError, match="multiples of 8"):
        autoencoder.encode(images[..., :30])


@pytest.mark.parametrize("kind", ["flux", "qwen_image"])
def test_autocast_has_no_effect(checkpoints: Path, images: torch.Tensor, kind: AutoencoderKind) -> None:
    autoencoder = DiffusersAutoencoder(str(checkpoints / kind), kind)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = autoencoder.encode(images)
    torch.testing.assert_close(autocast, autoencoder.encode(images))


def test_checkpoint_of_another_kind_is_rejected(checkpoints: Path) -> None:
    with pytest.raises(UserError, match="contains AutoencoderKLQwenImage, but kind flux requires AutoencoderKL"):
        DiffusersAutoencoder(str(checkpoints / "qwen_image"), "flux")


def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; use a folder that contains an AutoencoderKL"):
        DiffusersAutoencoder(str(tmp_path / "nothing"), "flux")
    with pytest.raises(UserError, match=r"no file named config\.json"):
        DiffusersAutoencoder(str(tmp_path), "flux")


def test_error_without_a_connection_says_what_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="hf download nobody/no-such-model --local-dir FOLDER") as caught:
        DiffusersAutoencoder("nobody/no-such-model", "flux")
    assert "\n" not in str(caught.value)


def test_missing_and_corrupted_weights_are_reported(checkpoints: Path, tmp_path: Path) -> None:
    source = checkpoints / "qwen_image"
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    with pytest.raises(UserError, match=r"no file named diffusion_pytorch_model\.safetensors"):
        DiffusersAutoencoder(str(tmp_path), "qwen_image")
    (tmp_path / WEIGHTS).write_bytes((source / WEIGHTS).read_bytes()[:5000])
    with pytest.raises(UserError, match="Unable to load weights"):
        DiffusersAutoencoder(str(tmp_path), "qwen_image")
    weights = load_file(source / WEIGHTS)
    del weights["decoder.conv_in.weight"]
    save_file(weights, tmp_path / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"missing weights: decoder\.conv_in\.weight$"):
        DiffusersAutoencoder(str(tmp_path), "qwen_image")


def test_autoencoder_without_a_shift_factor_is_rejected(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    save(AutoencoderKL(norm_num_groups=4, block_out_channels=(8,)), tmp_path)
    with pytest.raises(UserError, match="no shift_factor"):
        DiffusersAutoencoder(str(tmp_path), "flux")


def test_factor_is_declared_by_the_class_and_checked_against_the_checkpoint(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    assert latent_factor(Component("pocketdit.encoders.vae.DiffusersAutoencoder")) == 8
    save(
        AutoencoderKL(
            norm_num_groups=4,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        ),
        tmp_path,
    )
    with pytest.raises(UserError, match="downsamples images by a factor of 2, not 8"):
        DiffusersAutoencoder(str(tmp_path), "flux")
