"""Tests that the pipelines sample the same images as a run, and accept the arguments of diffusers pipelines."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from PIL import Image
from torch import Tensor

from pocketdit import PocketDiTImg2ImgPipeline, PocketDiTInpaintPipeline, PocketDiTPipeline
from pocketdit.artifacts.lora_file import LORA_FILE, save_lora
from pocketdit.backbones.dit import ElasticDiT, extract_subnetwork
from pocketdit.backbones.per_width import ELASTIC, LORA_PREFIX, merge_elastic_lora
from pocketdit.diffusion.sampler_names import SamplerName
from pocketdit.pipelines.schedules import scheduler_for
from pocketdit.sampling import initial_noise, sample
from tests.pipelines.conftest import Pair

PROMPTS = ["a red circle", "a green square and a yellow triangle"]


def noise(prompts: list[str] = PROMPTS) -> Tensor:
    return initial_noise(prompts, 0, 16, 8, 8)


def images(pipe: Any, prompts: list[str] = PROMPTS, **options: Any) -> Tensor:
    """Sample images with a pipeline, and return them in [-1, 1]."""
    result: Tensor = pipe(prompts, **{"latents": noise(prompts), "output_type": "pt", **options}).images
    return result * 2 - 1


def psnr(a: Tensor, b: Tensor) -> float:
    return float(10 * torch.log10(4 / (a - b).double().square().mean().clamp(min=1e-30)))


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("steps", [1, 2, 17])
def test_schedulers_of_diffusers_take_the_steps_of_our_samplers(pair: Pair, sampler: SamplerName, steps: int) -> None:
    """The schedulers and our samplers compute in float32, so their results differ only by rounding errors."""
    pair.pipe.scheduler = scheduler_for(sampler, 3.0)
    for width in (0.5, 1.0):
        sampling = replace(pair.experiment.sampling, sampler=sampler, steps=steps, time_shift=3.0, guidance=2.0)
        ours = sample(pair.network, pair.encoders, PROMPTS, width, sampling)
        theirs = images(pair.pipe.set_width(width), num_inference_steps=steps)
        assert ours.std() > 0.05
        assert psnr(ours, theirs) > 100, (sampler, width)


def test_set_width_uses_the_same_weights(pair: Pair) -> None:
    """The weights keep their storage, and the result equals that of a network with copies of the sliced weights."""
    weights = pair.pipe.transformer.state_dict(keep_vars=True)
    before = {name: (id(value), value.untyped_storage().data_ptr()) for name, value in weights.items()}
    narrow = images(pair.pipe.set_width(0.5))
    after = pair.pipe.transformer.state_dict(keep_vars=True)
    assert {name: (id(value), value.untyped_storage().data_ptr()) for name, value in after.items()} == before
    assert {name: value.data_ptr() for name, value in pair.network.named_parameters()} == {
        name.removeprefix("network."): value.data_ptr() for name, value in after.items()
    }
    wide = images(pair.pipe.set_width(1.0))
    assert psnr(narrow, wide) < 60
    copy = replace(pair, network=extract_subnetwork(pair.network, 0.5))
    sampling = replace(pair.experiment.sampling, steps=4, guidance=2.0, time_shift=3.0)
    assert psnr(sample(copy.network, pair.encoders, PROMPTS, 1.0, sampling), narrow) > 100
    with pytest.raises(ValueError, match=r"no width 0\.7; its widths are 0\.5, 1\.0"):
        pair.pipe.set_width(0.7)


def test_saved_pipeline_is_loaded_with_the_same_images(pair: Pair, tmp_path: Path) -> None:
    pair.pipe.save_pretrained(tmp_path / "saved")
    loaded = PocketDiTPipeline.from_pretrained(tmp_path / "saved")
    assert images(loaded).equal(images(pair.pipe))
    half = PocketDiTPipeline.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16)
    assert half.transformer.dtype is torch.bfloat16
    assert half.vae.dtype is torch.float32
    assert half.to(torch.float16).vae.autoencoder.kernel.dtype is torch.float32
    half.to(torch.bfloat16)
    assert 20 < psnr(images(half), images(pair.pipe)) < 80


def test_prompts_and_repetitions(pair: Pair) -> None:
    single = images(pair.pipe, PROMPTS[:1])
    assert psnr(images(pair.pipe)[:1], single) > 100
    both = pair.pipe(
        PROMPTS, num_images_per_prompt=2, latents=noise().repeat_interleave(2, dim=0), output_type="pt"
    ).images
    assert psnr(both[0], both[1]) > 100
    assert psnr(both[1] * 2 - 1, single[0]) > 100
    negative = images(pair.pipe, negative_prompt="a blue star on a very long road to somewhere else")
    assert psnr(negative, images(pair.pipe)) < 80
    empty = images(pair.pipe, negative_prompt="")
    assert psnr(empty, images(pair.pipe)) > 100, "an empty negative prompt must have no effect"


def test_generators_determine_the_noise(pair: Pair) -> None:
    def draw(*seeds: int) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        result: Tensor = pair.pipe(PROMPTS, generator=generators, output_type="pt").images
        return result

    assert draw(1, 2).equal(draw(1, 2))
    assert psnr(draw(1, 2)[0], draw(1, 3)[0]) > 100
    assert psnr(draw(1, 2)[1], draw(1, 3)[1]) < 60


def test_output_types(pair: Pair) -> None:
    tensor = pair.pipe(PROMPTS, latents=noise(), output_type="pt").images
    array = pair.pipe(PROMPTS, latents=noise(), output_type="np").images
    picture = pair.pipe(PROMPTS, latents=noise()).images
    (latents,) = pair.pipe(PROMPTS, latents=noise(), output_type="latent", return_dict=False)
    assert tensor.permute(0, 2, 3, 1).numpy() == pytest.approx(array)
    assert [image.size for image in picture] == [(64, 64)] * 2
    assert latents.shape == (2, 16, 8, 8)
    assert psnr(pair.encoders.autoencoder.decode(latents), tensor * 2 - 1) > 100


def test_callback_sees_and_replaces_latents(pair: Pair) -> None:
    seen = []

    def record(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((step, float(timestep)))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 3 else {}

    black = pair.pipe(PROMPTS, latents=noise(), output_type="latent", callback_on_step_end=record).images
    assert not black.any()
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    assert [time for _, time in seen] == pytest.approx([1000, 900, 750, 500])

    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        pipe._interrupt = True
        seen.append((step, 0.0))
        return tensors

    seen.clear()
    pair.pipe(PROMPTS, callback_on_step_end=stop)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 60}, "multiples of 32 pixels"),
        ({"latents": torch.zeros(1, 16, 8, 8)}, "latents must have the shape"),
        ({"num_inference_steps": 0}, "at least 1"),
        ({"prompt": []}, "prompt must be"),
        ({"negative_prompt": ["a", "b", "c"]}, "3 strings for 2 prompts"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "callback_on_step_end_tensor_inputs"),
    ],
)
def test_invalid_arguments_are_named(pair: Pair, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair.pipe(**{"prompt": PROMPTS, **options})


def test_image_to_image(pair: Pair) -> None:
    pipe = PocketDiTImg2ImgPipeline.from_pipe(pair.pipe)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.transformer is pair.pipe.transformer
    given = Image.new("RGB", (64, 64), (200, 40, 40))
    full = images(pipe, image=given, strength=1.0)
    assert psnr(full, images(pair.pipe)) > 100, "at full strength, the image must have no influence"
    reference = torch.tensor([200, 40, 40]).view(1, 3, 1, 1) / 127.5 - 1
    distances = [
        float((images(pipe, image=given, strength=s, num_inference_steps=10) - reference).square().mean())
        for s in (0.1, 0.5, 1.0)
    ]
    assert distances == sorted(distances)
    with pytest.raises(ValueError, match="leaves no step"):
        pipe(PROMPTS, image=given, strength=0.01)
    with pytest.raises(ValueError, match="strength must be"):
        pipe(PROMPTS, image=given, strength=2)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m"])
def test_inpainting_keeps_what_is_outside_the_mask(pair: Pair, sampler: SamplerName) -> None:
    pipe = PocketDiTInpaintPipeline.from_pipe(pair.pipe)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = scheduler_for(sampler, 3.0)
    given = Image.effect_noise((64, 64), 60).convert("RGB")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    for strength in (0.5, 1.0):
        result = images(pipe, image=given, mask_image=mask, strength=strength)
        data = pair.encoders.autoencoder
        kept = data.decode(data.encode(pipe.image_processor.preprocess(given)))
        assert psnr(result[:, :, :, :32], kept[:, :, :, :32].expand(2, -1, -1, -1)) > 80
        assert psnr(result[:, :, :, 32:], kept[:, :, :, 32:].expand(2, -1, -1, -1)) < 60
    whole = images(pipe, image=given, mask_image=Image.new("L", (64, 64), 255), strength=1.0)
    pair.pipe.scheduler = scheduler_for(sampler, 3.0)
    assert psnr(whole, images(pair.pipe)) > 100, "if everything is masked, the image must have no influence"


def test_lora_file_adapts_every_width(pair: Pair, tmp_path: Path) -> None:
    """With a LoRA file in the format of fine-tuning, the images must equal those of a network with the merged LoRA."""
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for name, module in pair.network.named_modules():
        if name.endswith((".q", ".contract")) and isinstance(module, torch.nn.Linear):
            weights[f"{name}.A"] = torch.randn(4, module.in_features, generator=generator) * 0.3
            weights[f"{name}.B"] = torch.randn(module.out_features, 4, generator=generator) * 0.3
    save_lora(tmp_path / LORA_FILE, weights)
    merged = copy.deepcopy(pair.network)
    merge_elastic_lora(merged, {f"{LORA_PREFIX}{ELASTIC}.{name}": value for name, value in weights.items()})
    before = images(pair.pipe)
    pair.pipe.load_lora_weights(str(tmp_path))
    for width in (0.5, 1.0):
        ours = sample(merged, pair.encoders, PROMPTS, width, replace(pair.experiment.sampling, guidance=2.0))
        assert psnr(ours, images(pair.pipe.set_width(width))) > 80
    pair.pipe.unload_lora_weights()
    assert psnr(images(pair.pipe), before) > 100


@pytest.mark.slow
def test_compiled_network_gives_the_same_images_at_every_width(pair: Pair) -> None:
    expected = {width: images(pair.pipe.set_width(width)) for width in (0.5, 1.0)}
    pair.pipe.transformer = torch.compile(pair.pipe.transformer, backend="eager")
    for width, reference in expected.items():
        assert psnr(images(pair.pipe.set_width(width)), reference) > 100
    torch._dynamo.reset()


def test_offloading_on_a_machine_without_an_accelerator_is_refused_by_diffusers(pair: Pair) -> None:
    """Without an accelerator, the pipeline can be moved but not offloaded. The offload sequence contains all models."""
    pair.pipe.to("cpu").to(torch.float32)
    models = {name for name, part in pair.pipe.components.items() if isinstance(part, torch.nn.Module)}
    assert models <= set(pair.pipe.model_cpu_offload_seq.split("->"))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="requires accelerator"):
            pair.pipe.enable_model_cpu_offload()


@pytest.mark.parametrize("groups", ["adjacent", "interleaved"])
def test_query_groups_are_saved_and_default_to_those_of_earlier_pipelines(
    pair: Pair, groups: Literal["adjacent", "interleaved"]
) -> None:
    from pocketdit.pipelines.transformer import PocketDiTTransformer2DModel

    with torch.device("meta"):
        spec = replace(pair.network.spec, query_groups=groups)
        config = dict(PocketDiTTransformer2DModel.from_network(ElasticDiT(spec)).config)
        assert PocketDiTTransformer2DModel.from_config(config).spec == spec
        del config["query_groups"]
        assert PocketDiTTransformer2DModel.from_config(config).spec.query_groups == "adjacent"
