"""Tests the teachers that diffusers loads against the pipelines of diffusers, with tiny randomly initialized models."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from pocketdit.config.component import Component, build
from pocketdit.errors import ConfigError, RunError
from pocketdit.teachers.architecture import pack, unpack
from pocketdit.teachers.contract import StorableText, Teacher, TeacherOutput
from pocketdit.teachers.diffusers_teacher import DiffusersTeacher
from pocketdit.training.cost import count_parameters
from tests.teachers.tiny_pipelines import FAMILIES, MAX_TOKENS, PROMPTS, Family, save, step

TIME = torch.tensor([0.3, 0.8])


class Tiny(NamedTuple):
    """A family of teachers, the folder of its tiny pipeline, the pipeline, and the teacher loaded from the folder."""

    family: Family
    folder: Path
    pipeline: Any
    teacher: DiffusersTeacher


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return load(request.param, tmp_path_factory.mktemp(request.param))


def load(name: str, folder: Path) -> Tiny:
    family = FAMILIES[name]
    pipeline = save(family, folder / "base")
    length = 512 if name == "z_image" else MAX_TOKENS  # the Z-Image pipeline cannot truncate the negative prompt
    teacher = family.teacher(str(folder / "base"), max_tokens=length, dtype="float32")
    return Tiny(family, folder / "base", pipeline, teacher)


def latents(channels: int, height: int = 4, width: int = 8) -> Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(height + width))


def predict(tiny: Tiny, teacher: DiffusersTeacher, guidance: float = 1.0) -> TeacherOutput:
    return teacher.predict(latents(tiny.family.channels), TIME, tiny.teacher.condition(PROMPTS), guidance)


@pytest.mark.parametrize(("sides", "guidance"), [((4, 10), 1.0), ((12, 6), 3.5)])
def test_step_equals_the_step_of_the_pipeline(tiny: Tiny, sides: tuple[int, int], guidance: float) -> None:
    noisy = latents(tiny.family.channels, *sides)
    expected, time = step(tiny.family, tiny.pipeline, noisy, guidance, PROMPTS)
    output = tiny.teacher.predict(noisy, torch.full((2,), time), tiny.teacher.condition(PROMPTS), guidance)
    torch.testing.assert_close(output.velocity, expected, atol=2e-5, rtol=2e-5)
    # The comparison would fail if time were reversed, the sign were wrong, or the text were ignored.
    assert expected.abs().mean() > 0.01
    other = tiny.teacher.predict(noisy, torch.full((2,), 1 - time), tiny.teacher.condition(PROMPTS), guidance)
    assert (other.velocity - expected).abs().max() > 1e-3
    blank = tiny.teacher.predict(noisy, torch.full((2,), time), tiny.teacher.condition(["", ""]), guidance)
    assert (blank.velocity - expected).abs().max() > 1e-4


def test_features_are_the_output_of_the_last_block(tiny: Tiny) -> None:
    teacher, seen = tiny.teacher, []
    hook = teacher.transformer.get_submodule(tiny.family.last).register_forward_hook(lambda *call: seen.append(call[2]))
    try:
        output = predict(tiny, teacher)
    finally:
        hook.remove()
    assert output.features.shape == (2, 8, teacher.feature_width) == (2, 4 * 8 // teacher.patch_size**2, 32)
    torch.testing.assert_close(output.features, tiny.family.features(seen[0], 8))
    guided = predict(tiny, teacher, guidance=3.0)
    if not teacher.transformer.config.get("guidance_embeds"):
        torch.testing.assert_close(guided.features, output.features)
    assert not torch.allclose(guided.velocity, output.velocity)


def test_teacher_satisfies_the_protocols(tiny: Tiny) -> None:
    module = tiny.family.teacher(str(tiny.folder), max_tokens=tiny.teacher.text_encoders[0].max_tokens)
    teacher: Teacher = module.to(torch.device("cpu"))
    assert isinstance(teacher, StorableText)
    assert (teacher.channels, teacher.patch_size, teacher.has_few_step) == (tiny.family.channels, 2, False)
    with torch.autocast("cpu", torch.float16):
        output = teacher.predict(latents(tiny.family.channels).requires_grad_(), TIME, module.condition(PROMPTS), 2.0)
    assert output.velocity.shape == latents(tiny.family.channels).shape
    assert output.velocity.dtype == output.features.dtype == torch.float32
    assert not output.velocity.requires_grad
    assert not any(weight.requires_grad for weight in module.transformer.parameters())
    exact = predict(tiny, tiny.teacher, 2.0)
    assert (output.velocity - exact.velocity).abs().max() < 0.1 * exact.velocity.abs().max()
    other = Component("pocketdit.encoders.vae.DiffusersAutoencoder", {"repository": "x", "kind": "none"})
    with pytest.raises(ConfigError, match="autoencoder: kind none does not match the teacher, which requires kind"):
        teacher.check_latents(other)
    with pytest.raises(ValueError, match=f"must have {tiny.family.channels} channels"):
        predict(tiny._replace(family=FAMILIES["klein" if tiny.family.channels == 16 else "flux"]), module)
    with pytest.raises(RunError, match="set lora or few_step"), teacher.few_step():
        pass


def test_outline_counts_every_model_and_every_pass(tiny: Tiny) -> None:
    teacher, calls = tiny.teacher, []
    length = teacher.text_encoders[0].max_tokens
    outline = type(teacher).outline(torch.device("meta"), length, str(tiny.folder), max_tokens=length, dtype="float32")
    assert outline is not None
    counted = [outline.network.network, *(encoder.network for encoder in outline.text_encoders)]
    loaded = [teacher.transformer, *(encoder.model for encoder in teacher.text_encoders)]
    assert list(map(count_parameters, counted)) == list(map(count_parameters, loaded))
    hook = teacher.transformer.register_forward_hook(lambda *_: calls.append(1))
    try:
        for guidance in (1.0, 3.5):
            calls.clear()
            predict(tiny, teacher, guidance)
            assert len(calls) == outline.passes(guidance)
    finally:
        hook.remove()


def test_stored_text_gives_the_same_prediction(tiny: Tiny) -> None:
    teacher = tiny.teacher
    length = teacher.text_encoders[0].max_tokens
    arguments: dict[str, Any] = {"repository": str(tiny.folder), "dtype": "float32", "max_tokens": length}
    encoders = [build(encoder) for encoder in type(teacher).text_components(**arguments)]
    text, blank = ([encoder.encode(captions) for encoder in encoders] for captions in (PROMPTS, [""]))
    assert all(tokens.mask.shape[1] <= encoder.max_tokens for tokens, encoder in zip(text, encoders, strict=True))
    without = tiny.family.teacher(**arguments, load_text=False)
    x_t = latents(tiny.family.channels)
    stored = without.predict(x_t, TIME, without.condition_on(text, blank), 3.0)
    torch.testing.assert_close(stored, predict(tiny, teacher, 3.0), atol=1e-5, rtol=1e-5)
    with pytest.raises(RunError, match="set load_text to true in its init_args"):
        without.condition(PROMPTS)


def test_second_transformer_is_the_few_step_teacher(tiny: Tiny, tmp_path: Path) -> None:
    save(tiny.family, tmp_path / "few", seed=1)
    few = tiny.family.teacher(str(tmp_path / "few"), dtype="float32", load_text=False)
    both = tiny.family.teacher(str(tiny.folder), few_step=str(tmp_path / "few"), dtype="float32", load_text=False)
    base, other = predict(tiny, tiny.teacher), predict(tiny, few)
    assert both.has_few_step
    assert not torch.allclose(base.velocity, other.velocity, atol=1e-3)
    torch.testing.assert_close(predict(tiny, both), base)
    with both.few_step():
        torch.testing.assert_close(predict(tiny, both), other)
        with both.few_step():
            pass
        torch.testing.assert_close(predict(tiny, both), other)
    torch.testing.assert_close(predict(tiny, both), base)


def test_packing_is_inverted() -> None:
    noisy = latents(16, 4, 6)
    tokens = pack(noisy)
    assert tokens.shape == (2, 6, 64)
    # The token in row 1 and column 2 begins with the four values of its patch in the first channel.
    assert tokens[0, 5, :4].tolist() == noisy[0, 0, 2:4, 4:6].flatten().tolist()
    assert unpack(tokens, (4, 6)).equal(noisy)


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return load("klein", tmp_path_factory.mktemp("klein"))


def test_few_step_model_is_loaded_only_once(klein: Tiny) -> None:
    both = type(klein.teacher)(str(klein.folder), few_step=str(klein.folder), dtype="float32", load_text=False)
    assert both.has_few_step
    with both.few_step():
        torch.testing.assert_close(predict(klein, both), predict(klein, klein.teacher))
    assert both._few_step_transformer is both.transformer


def test_float8_halves_the_weights_and_hardly_changes_the_prediction(klein: Tiny) -> None:
    whole, rounded = (
        type(klein.teacher)(str(klein.folder), few_step=str(klein.folder), float8=float8, max_tokens=MAX_TOKENS)
        for float8 in (False, True)
    )
    sizes = [sum(weight.nbytes for weight in each.transformer.parameters()) for each in (rounded, whole)]
    assert 0.5 * sizes[1] <= sizes[0] < 0.65 * sizes[1]
    exact, close = (predict(klein._replace(teacher=each), each).velocity for each in (whole, rounded))
    assert 0 < (exact - close).norm() < 0.15 * exact.norm()
    with pytest.raises(ConfigError, match="float8: cannot be sharded"):
        rounded.shard(None)  # type: ignore[arg-type]  # refused before the mesh is used


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"lora": "x", "few_step": "y"}, "lora and few_step: both specify the few-step teacher"),
        ({"lora": "x"}, r"lora: not supported for FLUX.2 \[klein\]"),
        ({"max_tokens": 513}, "max_tokens: must be from 1 to 512 for Qwen3, not 513"),
    ],
)
def test_contradicting_arguments_are_refused(klein: Tiny, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        type(klein.teacher)(str(klein.folder), **arguments)


def test_other_models_are_refused(klein: Tiny, tmp_path: Path) -> None:
    from tests.teachers import tiny_pipelines

    torch.manual_seed(0)
    flux = tiny_pipelines.flux().transformer
    flux.save_pretrained(tmp_path / "flux" / "transformer")
    with pytest.raises(RunError, match="contains a FluxTransformer2DModel, not a Flux2Transformer2DModel"):
        type(klein.teacher)(str(tmp_path / "flux"), load_text=False)
    config = {**klein.pipeline.transformer.config, "num_layers": 1}
    type(klein.pipeline.transformer).from_config(config).save_pretrained(tmp_path / "short" / "transformer")
    with pytest.raises(
        RunError, match=r"few_step: .*short does not have the architecture of .*: transformer_blocks\.1"
    ):
        type(klein.teacher)(str(klein.folder), few_step=str(tmp_path / "short"), load_text=False)


def test_few_step_lora_of_stable_diffusion(tmp_path: Path) -> None:
    tiny = load("sd3", tmp_path)
    weights: dict[str, Tensor] = {}
    base = dict(tiny.pipeline.transformer.named_parameters())
    merged = tiny.family.teacher(str(tiny.folder), dtype="float32", load_text=False)
    for i in range(3):
        layer = f"transformer_blocks.{i}.attn.to_q"
        a, b = torch.randn(4, 32), 0.1 * torch.randn(32, 4)
        weights |= {f"transformer.{layer}.lora_A.weight": a, f"transformer.{layer}.lora_B.weight": b}
        merged.transformer.get_parameter(f"{layer}.weight").data = base[f"{layer}.weight"].data + b @ a
    save_file(weights, tmp_path / "turbo.safetensors")
    both = tiny.family.teacher(
        str(tiny.folder), lora=str(tmp_path / "turbo.safetensors"), dtype="float32", load_text=False
    )
    torch.testing.assert_close(predict(tiny, both), predict(tiny, tiny.teacher))
    with both.few_step():
        torch.testing.assert_close(predict(tiny, both), predict(tiny, merged), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(predict(tiny, both), predict(tiny, tiny.teacher))
