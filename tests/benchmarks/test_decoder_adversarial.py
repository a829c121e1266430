"""Tests for the comparison of tiny decoders with and without the adversarial term."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.decoder_adversarial import PHOTOGRAPHS, Scores, describe, gradient, main, photograph_tiles


def test_tiles_are_spread_over_all_photographs() -> None:
    tiles = photograph_tiles()
    assert len(tiles) == len(PHOTOGRAPHS)
    assert all(batch.shape[1:] == (3, 128, 128) and 2 <= len(batch) <= 16 for batch in tiles)
    assert all(batch.dtype == torch.uint8 and batch.float().std() > 10 for batch in tiles)


def test_sharpness_is_the_mean_absolute_gradient() -> None:
    ramp = torch.arange(8, dtype=torch.uint8).repeat(1, 3, 4, 1)
    assert gradient([ramp]) == 1.0  # the gradient is 1 along rows and 0 along columns
    assert gradient([ramp, 3 * ramp]) == 2.0


def test_scores_of_several_seeds_become_means_and_deviations() -> None:
    cells = describe([Scores(30.0, 0.5, 10.0, 1.0), Scores(31.0, 0.5, 12.0, 1.0)])
    assert cells == ["30.50 ± 0.71", "0.5000 ± 0.0000", "11.00 ± 1.41", "1.000 ± 0.000"]
    assert describe([Scores(30.0, 0.5, 10.0, 1.0)]) == ["30.00", "0.5000", "10.00", "1.000"]


@pytest.mark.slow
def test_both_arms_are_trained_and_scored(
    scenes: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = next(item for item in tiny if item.startswith("tracking.uri="))
    settings = [database, "data.init_args.workers=0", "data.init_args.batch_size=4", "training.warmup_steps=1"]
    main(["--steps", "4", "--seeds", "1", "--data", str(scenes), "--runs", str(tmp_path / "runs"), "--json",
          str(tmp_path / "scores.json"), "--set", *settings])  # fmt: skip
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {"held-out scenes", "photographs"}
    for arms in scores.values():
        # After only four steps, the tiny decoder must be far worse than the analytic decoder.
        assert arms["autoencoder's own"][0]["psnr"] > 10 + arms["with"][0]["psnr"]
        assert arms["with"] != arms["without"]
    assert "fd: with - without = " in capsys.readouterr().out
