"""Tests for the tables on the scaling page and for the counts behind them."""

import json
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import scaling, scaling_tables
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.training.cost import Pass, count_pass
from pocketdit.training.gpus import GPUS, Gpu
from pocketdit.training.kernels import Kernel, LikeGpu
from tests.conftest import ROOT

COUNTS: dict[str, Any] = json.loads(scaling.COUNTS.read_text())
A100: Gpu = scaling_tables.A100


def assert_counted_again(name: str) -> None:
    assert scaling.rounded(scaling.count(scaling.CASES[name])) == COUNTS[name]


def test_the_page_contains_the_tables_of_the_script() -> None:
    page = scaling.PAGE.read_text()
    assert scaling.filled(page, scaling_tables.all_tables(COUNTS)) == page
    assert list(COUNTS) == list(scaling.CASES)


def test_check_fails_if_a_count_differs_from_the_page(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scaling.main(["--check"]) == 0
    changed = json.loads(scaling.COUNTS.read_text())
    changed["ladder A"]["steps"] *= 2
    (tmp_path / "counts.json").write_text(json.dumps(changed))
    monkeypatch.setattr(scaling, "COUNTS", tmp_path / "counts.json")
    assert scaling.main(["--check"]) == 1
    assert capsys.readouterr().err == "scaling.md is not up to date; run: python -m benchmarks.scaling\n"


def test_a_page_without_a_table_is_refused() -> None:
    page = "a\n<!-- table x -->\nold\n<!-- end -->\nb"
    assert scaling.filled(page, {"x": "new"}) == "a\n<!-- table x -->\n\nnew\n\n<!-- end -->\nb"
    with pytest.raises(ValueError, match="'x', 'y'"):
        scaling.filled(page, {"x": "new", "y": "missing"})


def test_counts_of_the_tiny_decoder() -> None:
    """The other cases take up to a minute each, and are counted again by ``make test-slow``."""
    assert_counted_again("decoder 256")


@pytest.mark.slow
@pytest.mark.parametrize("name", scaling.CASES)
def test_counts(name: str) -> None:
    assert_counted_again(name)


def test_a_linear_layer_by_hand() -> None:
    """Mapping 4 rows from 8 to 16 channels takes 4 * 8 * 16 multiply-adds, and so does each of the two gradients."""
    layer, x = nn.Linear(8, 16, device="meta"), torch.empty(4, 8, device="meta", requires_grad=True)
    with LikeGpu(autocast=False):
        counted = count_pass(Pass("", lambda: layer(x).sum(), layer, 0))
    products = [kernel for kernel in counted.forward if kernel.kind == "product"]
    assert products == [Kernel("product", 2 * 4 * 8 * 16, 4 * (4 * 8 + 8 * 16 + 16 + 4 * 16))]
    backward = sum(kernel.flops * launches for kernel, launches in counted.backward.items())
    assert backward == 2 * (2 * 4 * 8 * 16)


def test_ladder_a_by_hand() -> None:
    """30 layers of 1152 channels on 256 tokens and 77 + 1 tokens of text, with one key/value head of 32 channels."""
    tokens, text, d, kv = 256, 77 + 1, 1152, 32
    # Self-attention, then cross-attention.
    projections = tokens * (2 * d * d + 2 * d * kv) + tokens * 2 * d * d + text * 2 * d * kv
    products = 30 * (projections + tokens * 2 * 3 * d * d)  # FFN ratio 3
    products += 2 * tokens * 64 * d + 77 * 768 * d  # projections of 2x2x16 patches to and from d, and of text
    attention = 30 * (2 * tokens * tokens * d + 2 * tokens * text * d)  # QK and PV
    # A multiply-add is two FLOPs. The backward pass takes two products for each product of the forward pass, but
    # FlashAttention takes five for the two of its forward pass.
    expected = 2 * (3 * products + 3.5 * attention)
    assert COUNTS["ladder A"]["passes"]["1x"] == pytest.approx(expected, rel=0.002)


def test_bytes_of_a_sample_by_hand() -> None:
    experiment = load(ROOT / "experiments" / "paper" / "elastic_256.yaml", [], Experiment).config
    assert experiment.backbone.latent_channels == scaling_tables.LATENT_CHANNELS
    assert tuple(experiment.backbone.text_inputs) == tuple(channels for _, channels in scaling_tables.TEXT)
    assert scaling_tables.latent_bytes(256) == 16 * 32 * 32 * 2
    assert scaling_tables.text_bytes() == (77 * 512 + 256 * 2560) * 2
    assert scaling_tables.image_bytes(256) == 24576


def test_gpu_hours_by_hand() -> None:
    """At 100 samples per second, 1000 steps of 50 samples on each of 8 GPUs take 500 s, or 4000 GPU seconds."""
    parts = dict.fromkeys(("attention", "elementwise kernels", "kernel launches", "communication"), 0.0)
    case = {
        "samples": 50,
        "steps": 1000,
        "processes": 8,
        "times": {gpu.name: parts | {"matrix products": 0.5} for gpu in GPUS},
    }
    assert scaling_tables.per_gpu(case, A100) == 100
    assert scaling_tables.gpu_hours(case, A100) == pytest.approx(4000 / 3600)


def test_the_supernet_grows_as_the_table_says() -> None:
    sizes = [COUNTS[name]["weights"]["1x"] for name in ("elastic 256", "10 times", "100 times")]
    assert sizes[1] == pytest.approx(10 * sizes[0], rel=0.05)
    assert sizes[2] == pytest.approx(100 * sizes[0], rel=0.05)


@pytest.mark.parametrize(
    ("case", "counted"),
    [
        ("ladder A", {"1x", "ClipTextEncoder", "autoencoder"}),
        ("elastic 256", {"0.375x", "0.5x", "1x", "ClipTextEncoder", "Gemma3TextEncoder", "autoencoder"}),
        ("knowledge 1024", {"1x", "teacher", "teacher's text encoder", "Gemma3TextEncoder", "autoencoder"}),
        ("steps 1024", {"1x, student", "1x, critic", "1x, no gradients", "teacher", "teacher's text encoder"}),
        ("quantize 1024", {"1x, quantized", "1x, no gradients", "Gemma3TextEncoder"}),
        ("decoder 256", {"decoder, 256x256", "discriminator", "autoencoder"}),
    ],
)
def test_frozen_networks_and_lora_are_counted(case: str, counted: set[str]) -> None:
    passes = COUNTS[case]["passes"]
    assert counted <= passes.keys()
    assert all(flops > 0 for flops in passes.values())
