"""Tests for the Qwen-Image teacher's few-step LoRA, using the tiny Qwen-Image from ``test_qwen_image.py``."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pocketdit.teachers.contract import TeacherOutput
from pocketdit.teachers.qwen_image import QwenImageTeacher
from tests.teachers.test_qwen_image import WEIGHTS, assert_rejected, predict, tiny_qwen_image, tiny_teacher  # noqa: F401  (fixtures)

# The layers of each block to which the LoRA is applied, in the image stream and in the text stream.
ADAPTED = ("attn.to_q", "attn.add_k_proj", "attn.to_out.0", "img_mlp.net.0.proj", "txt_mod.1")


def lightning(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a LoRA in the format of Qwen-Image-Lightning, with various ranks and alphas."""
    base = load_file(folder / "transformer" / WEIGHTS)
    weights: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(5)
    for i, layer in enumerate([f"transformer_blocks.{block}.{name}" for block in range(3) for name in ADAPTED]):
        out, into = base[f"{layer}.weight"].shape
        rank = 4 + i % 2
        weights[f"{layer}.lora_down.weight"] = torch.randn(rank, into, generator=generator)
        weights[f"{layer}.lora_up.weight"] = 0.1 * torch.randn(out, rank, generator=generator)
        weights[f"{layer}.alpha"] = torch.tensor(2.0 + i % 3)
    return weights


def products(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the product (alpha / rank) B A for each layer."""
    layers = [name.removesuffix(".alpha") for name in weights if name.endswith(".alpha")]
    pairs = {layer: (weights[f"{layer}.lora_down.weight"], weights[f"{layer}.lora_up.weight"]) for layer in layers}
    return {layer: weights[f"{layer}.alpha"] / len(a) * b @ a for layer, (a, b) in pairs.items()}


def rename(weights: dict[str, Tensor], pattern: str, scaled: bool) -> dict[str, Tensor]:
    """Rename the weights and drop alpha. If ``scaled`` is True, multiply B by alpha / rank."""
    renamed = {}
    for name, value in weights.items():
        layer, _, part = name.partition(".lora_")
        if part:
            half = "A" if part.startswith("down") else "B"
            factor = weights[f"{layer}.alpha"] / value.shape[1] if scaled and half == "B" else 1.0
            renamed[pattern.format(layer=layer, half=half)] = factor * value
    return renamed


def kohya(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights to the format of kohya's trainer."""
    parts = {name: next(part for part in (".lora_", ".alpha") if part in name) for name in weights}
    flat = {name: name.partition(parts[name]) for name in weights}
    return {f"lora_unet_{flat[name][0].replace('.', '_')}{''.join(flat[name][1:])}": weights[name] for name in weights}


@pytest.fixture(scope="module")
def lora(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("lora") / "lightning.safetensors"
    save_file(lightning(folder), file)
    return file


@pytest.fixture(scope="module")
def merged(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TeacherOutput:
    """The prediction of a teacher with the weights W + (alpha / rank) B A."""
    copy = Path(shutil.copytree(folder, tmp_path_factory.mktemp("merged") / "model"))
    weights = load_file(copy / "transformer" / WEIGHTS)
    for layer, product in products(lightning(folder)).items():
        weights[f"{layer}.weight"] += product
    save_file(weights, copy / "transformer" / WEIGHTS, metadata={"format": "pt"})
    return predict(QwenImageTeacher(str(copy), dtype="float32"), guidance=4.0)


FORMATS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "lightning": lambda weights: weights,
    "kohya": kohya,
    "comfy": lambda weights: {f"diffusion_model.{name}": value for name, value in weights.items()},
    "diffusers": lambda weights: rename(weights, "transformer.{layer}.lora_{half}.weight", scaled=True),
    "peft": lambda weights: rename(weights, "{layer}.lora_{half}.weight", scaled=True),
    "no alpha": lambda weights: {
        name.replace("lora_A", "lora_down").replace("lora_B", "lora_up"): value
        for name, value in FORMATS["peft"](weights).items()
    },
    "diffsynth": lambda weights: rename(weights, "{layer}.lora_{half}.default.weight", scaled=True),
}


@pytest.mark.parametrize("layout", FORMATS)
def test_few_step_teacher_equals_a_teacher_with_merged_weights(
    folder: Path, teacher: QwenImageTeacher, merged: TeacherOutput, tmp_path: Path, layout: str
) -> None:
    save_file(FORMATS[layout](lightning(folder)), tmp_path / "lora.safetensors")
    base = predict(teacher, guidance=4.0)
    both = QwenImageTeacher(str(folder), lora=str(tmp_path), dtype="float32")
    assert both.has_few_step
    assert predict(both, guidance=4.0).velocity.equal(base.velocity)
    with both.few_step():
        few = predict(both, guidance=4.0)
    torch.testing.assert_close(few.velocity, merged.velocity, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(few.features, merged.features, atol=1e-5, rtol=1e-5)
    assert (few.velocity - base.velocity).abs().max() > 0.01
    assert predict(both, guidance=4.0).velocity.equal(base.velocity)
    assert not any(weight.requires_grad for weight in both.transformer.parameters())


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_alpha_and_dropout_are_read_from_the_metadata(
    folder: Path, merged: TeacherOutput, tmp_path: Path, prefix: str
) -> None:
    """After training, diffusers saves a LoRA with its alphas and dropout in the metadata."""
    ranks = {name.partition(".lora_")[0]: len(value) for name, value in lightning(folder).items() if "down" in name}
    alphas = {layer: lightning(folder)[f"{layer}.alpha"].item() for layer in ranks}
    config = {"r": 4, "lora_alpha": 4, "rank_pattern": ranks, "alpha_pattern": alphas, "lora_dropout": 0.5}
    config["target_modules"] = list(ranks)
    metadata = {"lora_adapter_metadata": json.dumps({prefix + key: value for key, value in config.items()})}
    weights = rename(lightning(folder), prefix + "{layer}.lora_{half}.weight", scaled=False)
    save_file(weights, tmp_path / "lora.safetensors", metadata=metadata)
    teacher = QwenImageTeacher(str(folder), lora=str(tmp_path), lora_file="lora.safetensors", dtype="float32")
    with teacher.few_step():
        torch.testing.assert_close(predict(teacher, guidance=4.0).velocity, merged.velocity, atol=1e-5, rtol=1e-5)


def storages(teacher: QwenImageTeacher) -> dict[int, int]:
    tensors = [*teacher.transformer.parameters(), *teacher.transformer.buffers()]
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}


def test_base_weights_are_stored_only_once(folder: Path, lora: Path) -> None:
    plain, both = QwenImageTeacher(str(folder)), QwenImageTeacher(str(folder), lora=str(lora))
    pairs = [value for name, value in lightning(folder).items() if "alpha" not in name]
    before = storages(both)
    assert sum(before.values()) - sum(storages(plain).values()) == 2 * sum(value.numel() for value in pairs)
    with both.few_step():
        predict(both)
        assert storages(both) == before
    assert storages(both) == before
    assert {weight.dtype for weight in both.transformer.parameters()} == {torch.bfloat16}


def test_few_step_context_ends_after_an_error(folder: Path, lora: Path) -> None:
    teacher = QwenImageTeacher(str(folder), lora=str(lora), dtype="float32")
    base = predict(teacher).velocity
    with teacher.few_step():
        few_step = predict(teacher).velocity
    assert not few_step.equal(base)

    def fail() -> None:
        with teacher.few_step():
            assert predict(teacher).velocity.equal(few_step)
            raise ZeroDivisionError

    with teacher.few_step():
        with pytest.raises(ZeroDivisionError):
            fail()
        assert predict(teacher).velocity.equal(few_step)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert predict(teacher).velocity.equal(base)


def unsuitable_loras(folder: Path) -> dict[str, tuple[dict[str, Tensor], str]]:
    """Return LoRAs that do not match the network or match only partly, with the expected error messages."""
    whole = lightning(folder)
    down, up, alpha = (
        f"transformer_blocks.1.attn.to_q.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")
    )
    diffusers = FORMATS["diffusers"](whole)
    half = "transformer.transformer_blocks.1.attn.to_q.lora_{}.weight"
    wide = {name: value[:, :-1].clone() if "lora_A" in name else value for name, value in diffusers.items()}
    return {
        "nothing": ({}, "no weights for 3 of 3 blocks"),
        "another network": ({f"x.{name}": value for name, value in whole.items()}, r"no layer x\.transformer_blocks"),
        "another part": ({**diffusers, "text_encoder.q.lora_A.weight": torch.ones(1, 1)}, "no layer text_encoder.q"),
        "another shape": (wide, "different shape"),
        "fewer blocks": (
            {n: v for n, v in whole.items() if "blocks.2" not in n},
            "1 of 3 blocks, starting with transformer_blocks.2",
        ),
        "no down": ({n: v for n, v in whole.items() if n != down}, r"blocks\.1\.attn\.to_q\.lora_up"),
        "no up": ({n: v for n, v in whole.items() if n != up}, r"blocks\.1\.attn\.to_q\.lora_up"),
        "no A": ({n: v for n, v in diffusers.items() if n != half.format("A")}, r"blocks\.1\.attn\.to_q\.lora_A"),
        "no B": ({n: v for n, v in diffusers.items() if n != half.format("B")}, r"blocks\.1\.attn\.to_q\.lora_B"),
        "no alpha": ({n: v for n, v in whole.items() if n != alpha}, "not a complete LoRA: 44 tensors"),
        "alpha alone": ({n: v for n, v in whole.items() if n not in (down, up)}, "not a complete LoRA: 43 tensors"),
        "dora": (
            {**whole, "transformer_blocks.1.attn.to_q.dora_scale": torch.ones(1)},
            "not a complete LoRA: 46 tensors",
        ),
    }


def test_unsuitable_loras_are_rejected(folder: Path, tmp_path: Path) -> None:
    for i, (weights, match) in enumerate(unsuitable_loras(folder).values()):
        save_file(weights, tmp_path / f"{i}.safetensors")
        assert_rejected(str(folder), str(tmp_path / f"{i}.safetensors"), match=match)
    assert_rejected(str(folder), str(tmp_path), match="contains 12 .safetensors files; choose one with lora_file")
    assert_rejected(
        str(folder), str(tmp_path), "other.safetensors", match=r"other\.safetensors: no such .safetensors file"
    )


def test_missing_and_corrupted_loras_are_reported(
    folder: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert_rejected(
        str(folder), "nobody/no-such-lora", "x.safetensors", match="hf download nobody/no-such-lora --local-dir"
    )
    assert_rejected(str(folder), "nobody/no-such-lora", match="set lora_file")
    assert_rejected(str(folder), str(tmp_path / "x.safetensors"), match=r"x\.safetensors: no such .safetensors file")
    (tmp_path / "pickled.bin").write_bytes(b"")
    assert_rejected(str(folder), str(tmp_path / "pickled.bin"), match="no such .safetensors file")
    (tmp_path / "cut.safetensors").write_bytes(lora.read_bytes()[:3000])
    assert_rejected(str(folder), str(tmp_path / "cut.safetensors"), match="SafetensorError")
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.of_the_future": 1})}
    save_file(FORMATS["diffusers"](lightning(folder)), tmp_path / "new.safetensors", metadata=metadata)
    assert_rejected(str(folder), str(tmp_path / "new.safetensors"), match="that peft can load: TypeError")


def test_sharded_teacher_gives_the_same_prediction(folder: Path, lora: Path, tmp_path: Path) -> None:
    """Shard the teacher and its LoRA block by block, with a single rank."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

    teacher = QwenImageTeacher(str(folder), lora=str(lora), dtype="float32")
    base = predict(teacher, guidance=4.0)
    with teacher.few_step():
        few = predict(teacher)
    teacher._unconditional.clear()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        teacher.shard(mesh)
        teacher.shard(mesh)
        teacher.to(torch.device("cpu"))
        text = teacher.text_encoders[0].model
        for network in (teacher.transformer, text):
            assert all(isinstance(weight, DTensor) for weight in network.parameters())
        for block in [*teacher.transformer.transformer_blocks, *text.layers]:
            assert isinstance(block, FSDPModule)
        torch.testing.assert_close(predict(teacher, guidance=4.0), base)
        with teacher.few_step():
            torch.testing.assert_close(predict(teacher), few)
        torch.testing.assert_close(predict(teacher, guidance=4.0), base)
        assert all(isinstance(weight, DTensor) for weight in teacher.transformer.parameters())
    finally:
        dist.destroy_process_group()
