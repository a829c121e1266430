"""Tests the Qwen-Image teacher against the pipeline of diffusers, using a tiny model with random weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pocketdit.config.component import Component, build
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.encoders.identity import identify
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.teachers.contract import Teacher, TeacherOutput
from pocketdit.teachers.qwen_image import QwenImageTeacher
from pocketdit.teachers.qwen_image_text import TEMPLATE, TEMPLATE_PREFIX_TOKENS

PROMPTS = ["a red circle", "two blue squares left of a small yellow star"]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def save_tokenizer(folder: Path) -> None:
    """Save a Qwen tokenizer with a small vocabulary. As in the original, each word of the template is one token."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import Qwen2Tokenizer

    trained = Tokenizer(BPE())
    trained.pre_tokenizer = Qwen2Tokenizer()._tokenizer.pre_tokenizer
    special_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator([TEMPLATE] * 2, BpeTrainer(initial_alphabet=alphabet, special_tokens=special_tokens))
    model = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": special_tokens[1:]})
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module", name="folder")
def tiny_qwen_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen-Image with random weights, in the folder structure of the repository on the Hub."""
    from diffusers import QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("qwen_image")
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6),
    )
    transformer.save_pretrained(folder / "transformer")
    text: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 512,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder / "text_encoder")
    save_tokenizer(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module", name="teacher")
def tiny_teacher(folder: Path) -> QwenImageTeacher:
    return QwenImageTeacher(str(folder), dtype="float32")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    """The pipeline of diffusers, with a separate copy of the weights."""
    from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImagePipeline
    from diffusers import QwenImageTransformer2DModel as Transformer
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    pipeline = QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192),
        vae=vae,
        text_encoder=Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder"),
        tokenizer=Qwen2Tokenizer.from_pretrained(folder / "tokenizer"),
        transformer=Transformer.from_pretrained(folder / "transformer"),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latents(height: int, width: int, count: int = 2) -> Tensor:
    return torch.randn(count, 16, height, width, generator=torch.Generator().manual_seed(height + width))


def predict(teacher: QwenImageTeacher, guidance: float = 1.0) -> TeacherOutput:
    time = torch.tensor([0.3, 0.8])
    return teacher.predict(latents(4, 8), time, teacher.condition(PROMPTS), guidance)


def test_template_prefix_is_removed(teacher: QwenImageTeacher, pipeline: Any) -> None:
    assert pipeline.prompt_template_encode == TEMPLATE
    assert pipeline.prompt_template_encode_start_idx == TEMPLATE_PREFIX_TOKENS
    before, after = TEMPLATE.split("{}")
    tokenizer = teacher.text_encoders[0].tokenizer
    assert len(tokenizer(before).input_ids) == TEMPLATE_PREFIX_TOKENS
    caption = len(tokenizer(PROMPTS[0] + after).input_ids)
    assert teacher.condition([PROMPTS[0]]).text[0].embeddings.shape == (1, caption, 32)


@pytest.mark.parametrize("side", ["right", "left"])
def test_captions_are_encoded_as_in_the_pipeline(teacher: QwenImageTeacher, pipeline: Any, side: str) -> None:
    pipeline.tokenizer.padding_side = side
    with torch.no_grad():
        embeddings, mask = pipeline.encode_prompt(PROMPTS)
        blank, _ = pipeline.encode_prompt(" ")
    ours = teacher.condition(PROMPTS).text[0]
    torch.testing.assert_close(ours.embeddings, embeddings, atol=1e-5, rtol=0)
    assert ours.mask.equal(mask.bool())
    assert not mask.all()
    for caption in ("", "  \n"):
        alone = teacher.condition([caption]).text[0]
        torch.testing.assert_close(alone.embeddings, blank, atol=1e-5, rtol=0)
        assert alone.mask.all()


def test_long_captions_are_truncated_as_in_the_pipeline(folder: Path, pipeline: Any) -> None:
    teacher = QwenImageTeacher(str(folder), max_tokens=12, dtype="float32")
    with torch.no_grad():
        embeddings, mask = pipeline.encode_prompt(PROMPTS, max_sequence_length=12)
    assert mask is None
    ours = teacher.condition(PROMPTS).text[0]
    assert ours.mask.all()
    torch.testing.assert_close(ours.embeddings, embeddings, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(4, 4), (4, 10), (12, 6)])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_step_equals_the_step_of_the_pipeline(
    teacher: QwenImageTeacher, pipeline: Any, size: tuple[int, int], guidance: float
) -> None:
    noisy = latents(*size)
    packed = pipeline._pack_latents(noisy, 2, 16, *size)
    height, width = (8 * side for side in size)
    after = pipeline(
        PROMPTS, " ", guidance, height, width, sigmas=[0.6], latents=packed, output_type="latent"
    ).images  # fmt: skip
    after = pipeline._unpack_latents(after, height, width, 8)[:, :, 0]
    sigma, end = pipeline.scheduler.sigmas.tolist()
    assert 0.1 < sigma < 1
    assert end == 0
    time = (pipeline.scheduler.timesteps / 1000).expand(2)
    teacher_output = teacher.predict(noisy, time, teacher.condition(PROMPTS), guidance)
    # v = noise - x_0 implies x_0 = x_t - sigma v.
    torch.testing.assert_close(teacher_output.velocity, (noisy - after) / sigma, atol=1e-5, rtol=1e-5)


def test_sign_of_the_velocity_matches_the_scheduler(pipeline: Any) -> None:
    data, noise = latents(4, 4), latents(4, 6)[..., :4]
    pipeline.scheduler.set_timesteps(sigmas=[0.6], mu=0.5)
    time = pipeline.scheduler.timesteps
    x_t = pipeline.scheduler.scale_noise(data, time, noise)
    denoised = pipeline.scheduler.step(noise - data, time[0], x_t, return_dict=False)[0]
    torch.testing.assert_close(denoised, data, atol=1e-5, rtol=0)


def test_velocity_is_computed_from_the_features(teacher: QwenImageTeacher, pipeline: Any) -> None:
    teacher_output = predict(teacher)
    assert teacher_output.features.shape == (2, 2 * 4, 32) == (2, 4 * 8 // teacher.patch_size**2, teacher.feature_width)
    model = pipeline.transformer
    with torch.no_grad():
        time = model.time_text_embed(torch.tensor([0.3, 0.8]), teacher_output.features)
        tokens = model.proj_out(model.norm_out(teacher_output.features, time))
    torch.testing.assert_close(pipeline._unpack_latents(tokens, 32, 64, 8)[:, :, 0], teacher_output.velocity)
    guided = predict(teacher, guidance=4.0)
    torch.testing.assert_close(guided.features, teacher_output.features)
    assert not torch.allclose(guided.velocity, teacher_output.velocity)
    assert guided.velocity.isfinite().all()


def test_guidance_does_not_change_the_prediction_of_a_blank_caption(teacher: QwenImageTeacher) -> None:
    condition, time = teacher.condition(["", PROMPTS[0]]), torch.tensor([0.5, 0.5])
    plain, guided = (teacher.predict(latents(4, 4), time, condition, guidance).velocity for guidance in (1.0, 5.0))
    torch.testing.assert_close(guided[0], plain[0], atol=1e-5, rtol=0)
    assert not torch.allclose(guided[1], plain[1])


def test_hook_is_removed_after_an_error(teacher: QwenImageTeacher) -> None:
    with pytest.raises(RuntimeError, match="must match the size"):
        teacher.predict(latents(4, 4), torch.ones(2), teacher.condition([*PROMPTS, PROMPTS[0]]))
    assert not teacher.transformer.norm_out._forward_pre_hooks
    with pytest.raises(ValueError, match="multiples of 2"):
        teacher.predict(latents(4, 5), torch.ones(2), teacher.condition(PROMPTS))


def test_teacher_satisfies_the_protocol(folder: Path) -> None:
    module = QwenImageTeacher(str(folder))
    teacher: Teacher = module.to(torch.device("cpu"))
    assert (teacher.feature_width, teacher.patch_size, teacher.has_few_step) == (32, 2, False)
    x_t = latents(4, 8).requires_grad_()
    with torch.autocast("cpu", torch.float16):
        teacher_output = teacher.predict(x_t, torch.full((2,), 0.5), teacher.condition(PROMPTS), guidance=3.0)
    outside = teacher.predict(x_t, torch.full((2,), 0.5), teacher.condition(PROMPTS), guidance=3.0)
    assert teacher_output.velocity.equal(outside.velocity)
    assert teacher_output.features.equal(outside.features)
    assert teacher_output.velocity.shape == x_t.shape
    assert teacher_output.velocity.dtype == teacher_output.features.dtype == torch.float32
    assert not teacher_output.velocity.requires_grad
    assert not teacher_output.features.requires_grad
    for network in (module.transformer, module.text_encoders[0].model):
        assert {weight.dtype for weight in network.parameters()} == {torch.bfloat16}
        assert not any(weight.requires_grad for weight in network.parameters())
        assert not any(part.training for part in network.modules())
    with pytest.raises(UserError, match="no few-step LoRA"), teacher.few_step():
        pass


def test_latents_of_another_autoencoder_are_rejected(teacher: QwenImageTeacher) -> None:
    path = "pocketdit.encoders.vae.DiffusersAutoencoder"
    teacher.check_latents(Component(path, {"repository": "x", "kind": "qwen_image"}))
    with pytest.raises(
        ConfigError, match="autoencoder: kind flux does not match the teacher, which requires kind qwen_image"
    ):
        teacher.check_latents(Component(path, {"repository": "x", "kind": "flux"}))


def test_an_autoencoder_must_declare_that_it_has_the_latents_of_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "pocketdit.encoders.dct.DCTAutoencoder"
    for other in (path, "pocketdit.encoders.learned.LearnedAutoencoder"):
        message = f"^autoencoder: {other} does not declare that its latents are of kind qwen_image"
        with pytest.raises(ConfigError, match=message):
            QwenImageTeacher.check_latents(Component(other))
    monkeypatch.setattr(DCTAutoencoder, "kind", "qwen_image", raising=False)
    QwenImageTeacher.check_latents(Component(path), repository="x")
    monkeypatch.setattr(DCTAutoencoder, "kind", "sd3", raising=False)
    with pytest.raises(ConfigError, match="autoencoder: kind sd3 does not match the teacher"):
        QwenImageTeacher.check_latents(Component(path))


def assert_rejected(*arguments: Any, match: str, **more: Any) -> None:
    with pytest.raises(UserError, match=match) as caught:
        QwenImageTeacher(*arguments, **more)
    assert "\n" not in str(caught.value)


def test_missing_checkpoint_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_rejected("nobody/no-such-model", match="hf download nobody/no-such-model --local-dir FOLDER")
    assert_rejected(str(tmp_path / "nothing"), match="no such folder; use a folder that contains a Qwen2.5-VL")
    assert_rejected("x/y", max_tokens=1025, match="max_tokens: must be from 1 to 1024 for Qwen-Image, not 1025")


def test_incomplete_checkpoints_are_rejected(folder: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(folder, tmp_path / name))

    model = copy("transformer")
    weights = load_file(model / "transformer" / WEIGHTS)
    del weights["proj_out.bias"]
    save_file(weights, model / "transformer" / WEIGHTS, metadata={"format": "pt"})
    assert_rejected(str(model), match=r"missing weights: proj_out\.bias$")
    (model / "transformer" / WEIGHTS).unlink()
    assert_rejected(str(model), match=r"no file named diffusion_pytorch_model\.safetensors")

    model = copy("config")
    config = json.loads((model / "transformer" / "config.json").read_text())
    for change, match in (
        (
            {"_class_name": "FluxTransformer2DModel"},
            "contains a FluxTransformer2DModel, not a QwenImageTransformer2DModel",
        ),
        ({"use_additional_t_cond": True}, "its config sets use_additional_t_cond"),
        ({"num_layers": 4}, "missing weights: transformer_blocks.3"),
        ({"num_attention_heads": 4}, "cannot load a QwenImageTransformer2DModel"),
    ):
        (model / "transformer" / "config.json").write_text(json.dumps({**config, **change}))
        assert_rejected(str(model), match=match)

    model = copy("text")
    file = model / "text_encoder" / "model.safetensors"
    weights = {name: value for name, value in load_file(file).items() if "layers.1.mlp" not in name}
    save_file(weights, file, metadata={"format": "pt"})
    assert_rejected(str(model), match=r"missing weights: .* and 2 more$")
    file.write_bytes(file.read_bytes()[:5000])
    assert_rejected(str(model), match="cannot load a Qwen2.5-VL text encoder from this folder")
    (model / "text_encoder" / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert_rejected(str(model), match="contains a model of type clip, not a Qwen2.5-VL")

    model = copy("tokenizer")
    (model / "tokenizer" / "tokenizer.json").unlink()
    assert_rejected(str(model), match="tokenizer has no vocabulary")


def test_sharded_checkpoint_is_loaded(folder: Path, teacher: QwenImageTeacher, pipeline: Any, tmp_path: Path) -> None:
    model = Path(shutil.copytree(folder, tmp_path / "model"))
    (model / "transformer" / WEIGHTS).unlink()
    pipeline.transformer.save_pretrained(model / "transformer", max_shard_size="100KB")
    assert predict(QwenImageTeacher(str(model), dtype="float32")).velocity.equal(predict(teacher).velocity)
    sorted((model / "transformer").glob("*.safetensors"))[1].unlink()
    assert_rejected(str(model), match="cannot load a QwenImageTransformer2DModel")


def test_published_tokenizer_files_are_loaded(folder: Path, teacher: QwenImageTeacher, tmp_path: Path) -> None:
    """The Qwen-Image repository contains vocab.json and merges.txt instead of tokenizer.json."""
    model = Path(shutil.copytree(folder, tmp_path / "model"))
    stored = json.loads((model / "tokenizer" / "tokenizer.json").read_text())
    (model / "tokenizer" / "tokenizer.json").unlink()
    (model / "tokenizer" / "vocab.json").write_text(json.dumps(stored["model"]["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in stored["model"]["merges"])
    (model / "tokenizer" / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    condition = QwenImageTeacher(str(model), dtype="float32").condition(PROMPTS)
    torch.testing.assert_close(condition.text[0].embeddings, teacher.condition(PROMPTS).text[0].embeddings)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_stored_text_gives_the_same_prediction(folder: Path, teacher: QwenImageTeacher, guidance: float) -> None:
    encoder = teacher.text_encoders[0]
    without_text = QwenImageTeacher(str(folder), dtype="float32", load_text=False)
    condition = without_text.condition_on([encoder.encode(PROMPTS)], [encoder.encode([""])])
    time = torch.tensor([0.3, 0.8])
    stored = without_text.predict(latents(4, 8), time, condition, guidance)
    computed = predict(teacher, guidance)
    assert torch.equal(stored.velocity, computed.velocity)
    assert torch.equal(stored.features, computed.features)
    with pytest.raises(RunError, match="set load_text to true in its init_args"):
        without_text.condition(PROMPTS)


def test_text_component_is_the_text_encoder_of_the_teacher(folder: Path, teacher: QwenImageTeacher) -> None:
    (component,) = QwenImageTeacher.text_components(repository=str(folder), dtype="float32", lora="unused")
    encoder = build(component)
    assert identify(encoder) == identify(teacher.text_encoders[0])
    assert torch.equal(encoder.encode(PROMPTS).embeddings, teacher.condition(PROMPTS).text[0].embeddings)
