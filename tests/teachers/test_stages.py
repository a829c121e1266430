"""Tests that both distillation stages run with a tiny Qwen-Image teacher, using the code for the full model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import find
from pocketdit.commands.main import main
from pocketdit.tracking.journal import read_metrics
from tests.conftest import ROOT, NewDatabase
from tests.stages.conftest import COMMON, LORA, STUDENT, locations, train
from tests.teachers.test_qwen_image import tiny_qwen_image  # noqa: F401  (the fixture "folder")
from tests.teachers.test_qwen_image_lora import lightning

QWEN = "stage.init_args.teacher.class_path=pocketdit.teachers.qwen_image.QwenImageTeacher"


def tiny_autoencoder() -> Any:
    from diffusers import AutoencoderKLQwenImage

    torch.manual_seed(0)
    return AutoencoderKLQwenImage(
        base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


@pytest.fixture(scope="module")
def overrides(
    folder: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase
) -> list[str]:
    """Return overrides for both stages, including a folder of runs that contains a pre-trained student."""
    home = tmp_path_factory.mktemp("qwen")
    new_database(home)
    save_file(lightning(folder), home / "lightning.safetensors")
    tiny_autoencoder().save_pretrained(home / "vae")
    vae = f"{{repository: {home / 'vae'}, kind: qwen_image}}"
    autoencoder = f"autoencoder={{class_path: pocketdit.encoders.vae.DiffusersAutoencoder, init_args: {vae}}}"
    train("elastic_pretrain", *locations(scenes, home), *COMMON, *STUDENT, autoencoder, "--name", "p")
    teacher = f"{{repository: {folder}, lora: {home / 'lightning.safetensors'}, dtype: float32}}"
    return [*locations(scenes, home), *COMMON, *STUDENT, autoencoder, QWEN,
            f"stage.init_args.teacher.init_args={teacher}", "parents={start: elastic_pretrain}",
            "training.max_steps=5"]  # fmt: skip


@pytest.mark.parametrize(("stage", "more"), [("knowledge_distill", []), ("step_distill", LORA)])
def test_stage_learns_from_qwen_image(overrides: list[str], stage: str, more: list[str]) -> None:
    train(stage, *overrides, *more, "--name", "q")
    runs = Path(next(value.removeprefix("runs=") for value in overrides if value.startswith("runs=")))
    run = find(runs, f"{stage}/q")
    logged = read_metrics(run.metrics)
    expected = {"knowledge_distill": {"train/output/width_1", "train/feature/width_1"},
              "step_distill": {"train/loss/output", "train/loss/feature", "train/loss/matching"}}  # fmt: skip
    assert expected[stage] <= set(logged)
    state = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    assert not any("transformer_blocks" in name or "teacher" in name for name in state)
    load_network(run)


@pytest.mark.parametrize("stage", ["knowledge_distill", "step_distill"])
def test_latents_of_a_stand_in_are_refused_before_anything_is_loaded(
    stage: str, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The teacher's folder does not exist, so loading the teacher would fail with a different error."""
    file = str(ROOT / "experiments" / f"{stage}.yaml")
    teacher = "stage.init_args.teacher.init_args={repository: no_such_folder}"
    assert main(["run", file, *locations(scenes, tmp_path), *COMMON, QWEN, teacher, "parents={}"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "autoencoder: pocketdit.encoders.dct.DCTAutoencoder does not declare that its latents are of kind" in line
    assert not (tmp_path / "runs").exists()
