"""Tests that the shipped YAML files run with a tiny run, and with tiny judges in place of the downloaded ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluation.contract import ImageTextEncoder, open_image
from evaluation.judges.dinov2 import DinoV2
from evaluation.judges.open_clip_encoder import OpenClip
from evaluation.judges.transformers_clip import TransformersClip
from evaluation.metrics.frechet import Gaussian, frechet_distance
from evaluation.metrics.image_source import open_source
from pocketdit.commands.main import main
from tests.conftest import ROOT
from tests.evaluation.judges.test_dinov2 import SMALL, published_state
from tests.evaluation.judges.test_open_clip_encoder import PLAIN, QUICK, architectures, weights  # noqa: F401  (fixtures)
from tests.evaluation.judges.test_qwen3_vl import save_qwen3_vl
from tests.evaluation.judges.test_transformers_clip import save_clip

PROMPTS = ["a red circle", "a blue square"]


def run_file(name: str, runs: Path, tmp_path: Path, *overrides: str) -> tuple[list[dict[str, Any]], list[Path]]:
    """Evaluate the tiny run with a shipped file. Return the results, and the images in the order of their prompts."""
    arguments = [
        "run=elastic_pretrain", "width=0.5", "steps=1", "device=cpu", f"subject.init_args.runs={runs}",
        f"data={tmp_path / 'data'}", f"out={tmp_path / 'out'}", f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}",
        "resamples=100",
    ]  # fmt: skip
    assert main(["evaluate", str(ROOT / "experiments" / "eval" / f"{name}.yaml"), *arguments, *overrides]) == 0
    (path,) = (tmp_path / "out" / name).glob("*/results.json")
    results: list[dict[str, Any]] = json.loads(path.read_text())["results"]
    return results, sorted((tmp_path / "out" / "images").rglob("*.png"))


def read(images: list[Path]) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    return [open_image(path) for path in images]


def test_clip_score_on_captions_of_coco(
    runs: Path,
    tmp_path: Path,
    weights: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "data" / "coco").mkdir(parents=True)
    rows = [{"image_id": 7 + i, "id": i, "caption": caption} for i, caption in enumerate(PROMPTS)]
    (tmp_path / "data" / "coco" / "captions_val2014.json").write_text(json.dumps({"annotations": rows}))
    encoder = "metrics.0.init_args.encoder.init_args"
    overrides = [f"{encoder}.model={QUICK}", f"{encoder}.weights={weights}", f'{encoder}.tag=""']
    (result,), images = run_file("clip_score_coco", runs, tmp_path, "prompts.coco.init_args.count=2", *overrides)
    assert result["metric"] == f"clip-score ({QUICK})"
    assert result["protocol"]["prompts"] == "coco-captions_val2014"
    judge = OpenClip(QUICK, weights)
    expected = np.sum(judge.encode_images(read(images)) * judge.encode_texts(PROMPTS), axis=1).mean()
    assert result["scores"]["overall"]["value"] == pytest.approx(expected, abs=1e-6)
    capsys.readouterr()
    assert main(["evaluate", "--table", "--out", str(tmp_path / "out")]) == 0
    assert f"clip-score ({QUICK}), 2 images" in capsys.readouterr().out


def test_dino_fid_and_validation_loss(runs: Path, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "imagenet_captions.txt").write_text("\n".join(PROMPTS))
    file = tmp_path / "dinov2.safetensors"
    save_file(published_state(), file)
    metric = "metrics.1.init_args"
    results, images = run_file(
        "dino_fid", runs, tmp_path, "prompts.classes.init_args.images_each=2", f"metrics.0.init_args.runs={runs}",
        "metrics.0.init_args.samples=8", f"{metric}.encoder.init_args.model={SMALL}",
        f"{metric}.encoder.init_args.weights={file}", f"{metric}.reference={scenes}", f"{metric}.reference_samples=12",
        f"{metric}.kept={tmp_path / 'references'}",
    )  # fmt: skip
    loss, distance = results
    assert loss["metric"] == "validation-loss"
    assert loss["scores"]["overall"]["samples"] == 8
    assert distance["metric"] == f"fd ({SMALL})"
    assert distance["protocol"]["reference_samples"] == 12
    judge, source = DinoV2(file, SMALL), open_source(scenes)
    rows = np.sort(np.random.default_rng(0).choice(source.count, 12, replace=False))
    real = Gaussian.from_samples(judge.encode_images([source.read(int(row)) for row in rows]))
    expected = frechet_distance(Gaussian.from_samples(judge.encode_images(read(images))), real)
    assert distance["scores"]["overall"]["value"] == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-3


def test_preference_scores(runs: Path, tmp_path: Path, weights: Path) -> None:  # noqa: F811
    """The models of PickScore, HPSv2.1 and VQAScore are read in the file formats in which they are published."""
    (tmp_path / "data" / "parti").mkdir(parents=True)
    (tmp_path / "data" / "parti" / "PartiPrompts.tsv").write_text(
        "Prompt\tCategory\n" + "".join(f"{p}\tx\n" for p in PROMPTS)
    )
    folder = tmp_path / "data" / "weights"
    pickscore = save_clip(folder / "PickScore_v1", folder / "CLIP-ViT-H-14")
    torch.save({"epoch": 1, "state_dict": load_file(weights)}, folder / "HPS_v2.1_compressed.pt")
    save_qwen3_vl(folder / "Qwen3-VL-8B-Instruct")
    results, images = run_file(
        "preference", runs, tmp_path, f"metrics.1.init_args.encoder.init_args.model={PLAIN}",
        'metrics.1.init_args.encoder.init_args.tag=""', "metrics.2.init_args.judge.init_args.dtype=float32",
    )  # fmt: skip
    assert [result["metric"] for result in results] == [
        "pickscore (PickScore_v1)", f"hpsv2.1 ({PLAIN})", "vqascore (Qwen3-VL-8B-Instruct)",
    ]  # fmt: skip
    judges: tuple[ImageTextEncoder, ...] = (
        TransformersClip(pickscore, folder / "CLIP-ViT-H-14"),
        OpenClip(PLAIN, weights),
    )
    for result, judge, scale in zip(results, judges, (np.exp(2.6592), 1), strict=False):
        expected = scale * np.sum(judge.encode_images(read(images)) * judge.encode_texts(PROMPTS), axis=1)
        assert list(result["scores"]["overall"]["by_prompt"].values()) == pytest.approx(expected, abs=1e-4)
    assert 0 < results[2]["scores"]["overall"]["value"] < 1
    assert results[2]["protocol"]["value"] == "p(yes)"
