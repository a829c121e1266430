"""Tests for fine-tuning: LoRA at one or all widths, prior preservation, the exported file, and exact resuming."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pocketdit.artifacts.lora_file import LORA_FILE
from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, find, load_experiment
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.errors import ConfigError
from pocketdit.running.assemble import build_encoders, build_stage
from pocketdit.sampling import initial_noise, sample
from pocketdit.stages.finetune import Finetune
from pocketdit.tracking.journal import read_metrics
from tests.conftest import ROOT
from tests.export.conftest import TINY, tiny_run

LORA, FULL = (ROOT / "experiments" / f"finetune_{kind}.yaml" for kind in ("lora", "full"))
SHORT = [
    *TINY,
    "parents.start=elastic_pretrain/t",
    "data.init_args.base_size=64",
    "data.init_args.batch_size=4",
    "data.init_args.workers=0",
    "training.max_steps=4",
    "training.warmup_steps=0",
    "training.decay=constant",
    "training.log_every=1",
    "training.checkpoint_every=2",
    "training.precision=32-true",
    "sampling.steps=2",
    "sampling.prompts=[a zorb]",
    "stage.init_args.prior.images=5",
    "stage.init_args.prior.prompts=[a red circle, a blue star]",
]
RANK = ["stage.init_args.lora.rank=4", "stage.init_args.lora.alpha=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a subfolder ``runs`` that contains elastic_pretrain/t."""
    folder = tmp_path_factory.mktemp("finetune")
    tiny_run(folder / "runs", "t")
    return folder


@pytest.fixture(scope="module")
def overrides(folder: Path, scenes: Path) -> list[str]:
    """Return overrides that shorten the fine-tuning experiments to runs of a few seconds."""
    paths = [f"data.init_args.path={scenes}", f"runs={folder / 'runs'}", f"tracking.uri=sqlite:///{folder / 'm.db'}"]
    return [*SHORT, *paths]


def finetune(file: Path, overrides: list[str], *more: str) -> RunFolder:
    assert main(["run", str(file), *overrides, *more]) == 0
    name = more[more.index("--name") + 1] if "--name" in more else more[more.index("--resume") + 1].split("/")[1]
    runs = next(Path(word.removeprefix("runs=")) for word in overrides if word.startswith("runs="))
    return find(runs, f"{file.stem}/{name}")


@pytest.fixture(scope="module")
def lora_run(overrides: list[str]) -> RunFolder:
    """Return an uninterrupted run of four steps that trains a LoRA."""
    return finetune(LORA, [*overrides, *RANK], "--name", "lora")


@pytest.fixture(scope="module")
def full_run(overrides: list[str]) -> RunFolder:
    """Return an uninterrupted run of four steps that trains all weights."""
    return finetune(FULL, overrides, "--name", "full")


def parent_weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(find(folder / "runs", "elastic_pretrain/t").weights))


def test_lora_leaves_the_base_unchanged_and_is_written_for_diffusers(lora_run: RunFolder, folder: Path) -> None:
    stored, base = load_file(lora_run.weights), parent_weights(folder)
    assert all(torch.equal(stored[name], value) for name, value in base.items())
    factors = {name: value for name, value in stored.items() if name not in base}
    exported = load_file(lora_run.path / LORA_FILE)
    assert exported.keys() == {
        f"transformer.network.{name.removeprefix('lora.elastic.')[:-2]}.lora_{name[-1]}.weight" for name in factors
    }
    layer = "stages.0.blocks.0.attention.q"
    a, b = (exported[f"transformer.network.{layer}.lora_{name}.weight"] for name in "AB")
    assert a.shape == (4, 64)
    assert b.abs().max() > 0
    merged = load_network(lora_run)
    torch.testing.assert_close(merged.get_parameter(f"{layer}.weight"), base[f"{layer}.weight"] + b @ a)
    untouched = load_network(lora_run, lora_scale=0.0).state_dict()
    assert all(torch.equal(untouched[name], value) for name, value in base.items())


def test_checkpoint_stores_the_base_once(lora_run: RunFolder) -> None:
    """The EMA copy contains only adapters, so the checkpoint is hardly larger than the weights."""
    assert lora_run.checkpoint.stat().st_size < 1.6 * lora_run.weights.stat().st_size


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_original_network_is_a_minimum_of_the_prior_loss(kind: str, request: pytest.FixtureRequest) -> None:
    """The loss on the prior's images is exactly zero for the original network, and positive in later steps."""
    run: RunFolder = request.getfixturevalue(f"{kind}_run")
    recorded = read_metrics(run.metrics)
    values = [value for _, value in recorded["train/prior/width_1"]]
    assert values[0] == 0
    assert all(value > 0 for value in values[1:])
    assert all(value < recorded["train/loss/width_1"][step][1] for step, value in enumerate(values))
    assert "train/prior/width_0.5" in recorded


def test_full_fine_tuning_changes_all_matrices(full_run: RunFolder, folder: Path) -> None:
    weights, parent = load_file(full_run.weights), parent_weights(folder)
    assert weights.keys() == parent.keys()
    assert not any(torch.equal(weights[name], value) for name, value in parent.items() if value.ndim > 1)
    assert not (full_run.path / LORA_FILE).exists()


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_resumed_run_is_bit_identical(kind: str, overrides: list[str], request: pytest.FixtureRequest) -> None:
    """A resumed run reads the prior's images from the checkpoint. Changed weights would sample different images."""
    uninterrupted: RunFolder = request.getfixturevalue(f"{kind}_run")
    file, more = (LORA, RANK) if kind == "lora" else (FULL, [])
    finetune(file, [*overrides, *more, "training.max_steps=2"], "--name", f"{kind}_again")
    resumed = finetune(file, [*overrides, *more], "--resume", f"{file.stem}/{kind}_again")
    assert resumed.weights.read_bytes() == uninterrupted.weights.read_bytes()
    first, second = (read_metrics(run.metrics)["train/prior/width_1"] for run in (uninterrupted, resumed))
    assert first == second


def test_a_single_width_of_the_parent(overrides: list[str], folder: Path) -> None:
    """If only one width is fine-tuned, the exported LoRA is zero for all weights that this width does not use."""
    run = finetune(LORA, [*overrides, *RANK, "backbone.widths=[0.5]"], "--name", "narrow")
    exported = load_file(run.path / LORA_FILE)
    a, b = (exported[f"transformer.network.stages.0.blocks.0.ffn.expand.lora_{name}.weight"] for name in "AB")
    product = b @ a
    assert product[:128, :32].abs().min() > 0
    product[:128, :32] = 0
    assert not product.any()
    network = load_network(run)
    assert isinstance(network, ElasticDiT)
    assert network.spec.widths == (0.5,)
    out = folder / "narrow.png"
    assert main(["sample", str(run.path), "a zorb", "--steps", "1", "--out", str(out)]) == 0


def test_without_a_prior_the_run_trains_on_the_new_images_alone(overrides: list[str]) -> None:
    kept = [item for item in overrides if not item.startswith("stage.init_args.prior")]
    run = finetune(LORA, [*kept, *RANK, "stage.init_args.prior=null", "training.max_steps=1"], "--name", "alone")
    assert not any("prior" in name for name in read_metrics(run.metrics))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parents={}", "parents.start: set it to the run to fine-tune"),
        ("optimizer={class_path: pocketdit.training.muon.MuonAdamW}", "MuonAdamW does not support LoRA"),
        ("stage.init_args.lora.targets=[]", "targets must contain at least one group of layers"),
        ("stage.init_args.lora.targets=[attentions]", "did you mean 'attention'?"),
        ("stage.init_args.lora.rank=0", "rank"),
        ("stage.init_args.prior.prompts=[]", "prompts must not be empty"),
    ],
)
def test_unsuitable_settings_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load(LORA, [override], Experiment)


def test_targets_that_the_network_does_not_have_are_refused(overrides: list[str]) -> None:
    """The tiny network has no long skip connections."""
    experiment = load(LORA, [*overrides, "stage.init_args.lora.targets=[skips]"], Experiment).config
    with pytest.raises(ConfigError, match=r"lora\.targets: the network has none of these layers: skips"):
        build_stage(experiment, build_encoders(experiment))


@pytest.mark.parametrize("file", [LORA, FULL], ids=lambda file: file.stem)
def test_the_plan_counts_what_is_trained(file: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    experiment = load(file, overrides, Experiment).config
    stage = build_stage(experiment, build_encoders(experiment))
    assert isinstance(stage, Finetune)
    cost = stage.cost(experiment)
    trained = sum(value.nbytes for _, value in stage.trained_parameters())
    steps = 4 * len(stage.trained_parameters())
    assert cost.memory["optimizer state"] == 2 * trained + steps
    assert cost.memory["weights"] == sum(value.nbytes for value in stage.backbone.parameters())
    own = {id(value): value.nbytes for value in stage.parameters()}
    kept = sum(cost.memory.get(name, 0) for name in ("weights", "EMA weights", "original weights"))
    assert kept == sum(own.values())
    assert main(["run", str(file), *overrides, "--plan"]) == 0
    assert "0.5x, no gradients" in capsys.readouterr().out


@pytest.mark.slow
def test_the_lora_file_adapts_the_published_pipeline_of_the_parent(
    lora_run: RunFolder, folder: Path, tmp_path: Path
) -> None:
    from pocketdit import PocketDiTPipeline

    parent = find(folder / "runs", "elastic_pretrain/t")
    assert main(["publish", str(parent.path), "--to", str(tmp_path / "published")]) == 0
    pipe = PocketDiTPipeline.from_pretrained(tmp_path / "published")
    experiment, merged = load_experiment(lora_run), load_network(lora_run)
    noise = initial_noise(["a zorb"], 0, 16, 8, 8)
    steps = replace(experiment.sampling, sampler="dpmpp_2m", time_shift=3.0)

    def images() -> torch.Tensor:
        options = {"num_inference_steps": steps.steps, "guidance_scale": steps.guidance}
        result: torch.Tensor = pipe("a zorb", latents=noise, output_type="pt", **options).images
        return result * 2 - 1

    for width in (0.5, 1.0):
        pipe.set_width(width)
        before = images()
        pipe.load_lora_weights(str(lora_run.path))
        expected = sample(merged, build_encoders(experiment), ["a zorb"], width, steps)
        torch.testing.assert_close(images(), expected, atol=1e-4, rtol=0)
        assert (before - expected).abs().max() > 1e-3
        pipe.unload_lora_weights()


@pytest.mark.slow
@pytest.mark.parametrize("file", [LORA, FULL], ids=lambda file: file.stem)
def test_fsdp2_equals_ddp(file: Path, overrides: list[str], folder: Path) -> None:
    for strategy in ("ddp", "fsdp2"):
        command = [sys.executable, "-m", "pocketdit", "run", str(file), *overrides, "training.accelerator=cpu",
                   "training.devices=2", f"training.strategy={strategy}", "--name", strategy]  # fmt: skip
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
        assert result.returncode == 0, result.stdout + result.stderr
    first, second = (load_file(find(folder / "runs", f"{file.stem}/{name}").weights) for name in ("ddp", "fsdp2"))
    assert first.keys() == second.keys()
    distance = sum((second[key] - value).square().sum() for key, value in first.items()).sqrt()
    assert distance < 1e-3 * sum(value.square().sum() for value in first.values()).sqrt()
    ddp, fsdp2 = (read_metrics(find(folder / "runs", f"{file.stem}/{name}").metrics) for name in ("ddp", "fsdp2"))
    for key in ("train/loss/width_1", "train/prior/width_1", "train/gradient_norm"):
        assert [v for _, v in fsdp2[key]] == pytest.approx([v for _, v in ddp[key]], rel=2e-3, abs=1e-5), key
