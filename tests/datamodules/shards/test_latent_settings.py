"""Tests that the settings of stored latents are recorded, and that runs that need different latents are refused."""

from pathlib import Path
from typing import Any

import pytest

from datamodules.scenes.generator import SceneGenerator
from datamodules.shards.build_generated import build_generated
from datamodules.shards.module import ShardDataModule
from datamodules.shards.schema import read_info
from datamodules.shards.stats import latent_statistics
from pocketdit.commands.main import main
from pocketdit.config.component import Component
from pocketdit.encoders.dct import DCTAutoencoder
from pocketdit.errors import ConfigError
from tests.conftest import PRETRAIN
from tests.datamodules.latents import DCT, build_latents


@pytest.fixture(name="latents")
def fixture_latents(tmp_path: Path) -> Path:
    path = tmp_path / "latents"
    build_latents(path, 4, 2, base_size=64)
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": True}, "data.init_args.flip: .* stores latents, which cannot be flipped"),
        ({"crop": "random"}, "data.init_args.crop: .* stores latents of center crops"),
        ({"base_size": 128}, "data.init_args.base_size: is 128, but .* stores latents with base_size 64"),
    ],
)
def test_setting_that_would_be_ignored_is_rejected(latents: Path, options: dict[str, Any], message: str) -> None:
    ShardDataModule(str(latents), batch_size=2, base_size=64).setup()
    with pytest.raises(ConfigError, match=message):
        ShardDataModule(str(latents), batch_size=2, **{"base_size": 64, **options}).setup()


def test_aspect_buckets_are_rejected_if_latents_were_cropped_to_squares(tmp_path: Path) -> None:
    build_latents(tmp_path / "square", 4, 2, buckets="square")
    ShardDataModule(str(tmp_path / "square"), batch_size=2, buckets="square").setup()
    with pytest.raises(
        ConfigError, match=r"data.init_args.buckets: is aspect, but .* stores latents with buckets square"
    ):
        ShardDataModule(str(tmp_path / "square"), batch_size=2).setup()


def test_statistics_of_another_autoencoder_are_rejected(latents: Path) -> None:
    assert "latent_std" in latent_statistics(latents, DCTAutoencoder())
    with pytest.raises(ConfigError, match=r"autoencoder.init_args.scale: the latents .*, not with 1.0"):
        latent_statistics(latents, DCTAutoencoder(scale=1.0))


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], (64, "square")), (["--base-size", "96"], (96, "square")), (["--buckets", "aspect"], (64, "aspect"))],
)
def test_encoding_uses_the_settings_of_the_experiment(
    tmp_path: Path, options: list[str], expected: tuple[int, str]
) -> None:
    text = PRETRAIN.read_text().replace("base_size: 128", "base_size: 64\n    buckets: square")
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(text)
    out = tmp_path / "out"
    build_generated(SceneGenerator(), tmp_path / "images", 2, 1, progress=False)
    assert main(["data", "encode", str(experiment), str(tmp_path / "images"), str(out), *options]) == 0
    recorded = read_info(out).autoencoder or {}
    assert (recorded["base_size"], recorded["buckets"]) == expected
    assert recorded["init_args"] == {"scale": 2.1, "center": 0.53}
    module = ShardDataModule(str(out), batch_size=2, base_size=expected[0], buckets=expected[1], workers=0)  # type: ignore[arg-type]
    sides = {tuple(batch["latents"].shape[2:]) for batch in module.val_dataloader()}
    assert sides == {(expected[0] // 8,) * 2}


def test_run_with_other_settings_is_refused_before_its_folder_exists(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    build_latents(out, 2, 1, Component(DCT.class_path, {"scale": 2.1, "center": 0.53}))
    overrides = [f"data.init_args.path={out}", f"runs={tmp_path / 'runs'}", "autoencoder.init_args.scale=1.0"]
    assert main(["run", str(PRETRAIN), *overrides]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("lightning run: autoencoder.init_args.scale: the latents")
    assert not (tmp_path / "runs").exists()
