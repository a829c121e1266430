"""Tests ``lightning evaluate`` with judges that have the architectures of published models and random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from evaluation.judges.owlv2 import Owlv2Detector
from evaluation.judges.qwen_vl import QwenVLAnswerer
from evaluation.metrics.compbench.numeracy import Numeracy
from evaluation.metrics.compbench.spatial import Spatial
from evaluation.metrics.geneval2.soft_tifa import spellings
from evaluation.prompts.compbench import load_prompts
from pocketdit.commands.main import main
from tests.conftest import NewDatabase
from tests.evaluation.conftest import COMPBENCH_FILES
from tests.evaluation.judges.test_owlv2 import save_owlv2
from tests.evaluation.judges.test_qwen3_vl import save_qwen3_vl


@pytest.fixture(autouse=True)
def _database(tmp_path: Path, new_database: NewDatabase) -> None:
    new_database(tmp_path)


def write_images(folder: Path, names: list[str], each: int = 1) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Write ``each`` noise images for every name, and return all images in the order of the names."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(each * len(names))]
    for i, image in enumerate(images):
        path = folder / names[i // each] / f"{i % each:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return images


def evaluate(tmp_path: Path, prompts: dict[str, Any], metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Evaluate the images in tmp_path/images with an evaluation's YAML file, and return the results."""
    settings = {
        "evaluation": "models",
        "subject": component("evaluation.subjects.image_folder.ImageFolder", path=str(tmp_path / "images")),
        "prompts": prompts,
        "metrics": metrics,
        "out": str(tmp_path / "out"),
        "resamples": 100,
        "tracking": {"uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    }
    file = tmp_path / "models.yaml"
    file.write_text(yaml.safe_dump(settings))
    assert main(["evaluate", str(file)]) == 0
    (path,) = (tmp_path / "out" / "models").glob("*/results.json")
    results: list[dict[str, Any]] = json.loads(path.read_text())["results"]
    return results


def component(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


@pytest.mark.parametrize("category", ["spatial", "numeracy"])
def test_open_vocabulary_detector(category: str, tmp_path: Path) -> None:
    """OWLv2 looks for the objects of each prompt, and the name of the result contains the judge's name."""
    model = save_owlv2(tmp_path / "tiny-owlv2")
    folder = tmp_path / "data" / "t2i_compbench"
    folder.mkdir(parents=True)
    for name, text in {**COMPBENCH_FILES, "shape_val.txt": "a cube", "texture_val.txt": "a rug"}.items():
        (folder / name).write_text(text)
    prompts = load_prompts(folder, category).prompts
    images = write_images(tmp_path / "images", [prompt.id for prompt in prompts])
    scorer = {"spatial": Spatial, "numeracy": Numeracy}[category]
    detector = component("evaluation.judges.owlv2.Owlv2Detector", path=str(model))
    metric = component(
        "evaluation.metrics.compbench.metric.CompBench",
        prompts=category,
        category=category,
        scorer=component(f"{scorer.__module__}.{scorer.__name__}", detector=detector, threshold=0.3),
    )
    source = component("evaluation.prompts.compbench.CompBenchPrompts", folder=str(folder.parent), category=category)
    (result,) = evaluate(tmp_path, {category: source}, [metric])
    assert result["metric"] == "t2i-compbench (tiny-owlv2)"
    assert result["protocol"]["detection_threshold"] == 0.3
    assert result["protocol"]["limits"]["best_score"] == 1
    direct = scorer(Owlv2Detector(model), 0.3)
    expected = {p.id: direct.score([image], p)[0] for p, image in zip(prompts, images, strict=True)}
    assert result["scores"][category]["by_prompt"] == pytest.approx(expected)
    assert max(expected.values()) > 0


GENEVAL2_PROMPTS: list[dict[str, Any]] = [
    {
        "prompt": "two red dogs",
        "atom_count": 3,
        "vqa_list": [["How many dogs?", "two"], ["Are the dogs red?", "Yes"], ["Are there dogs?", "Yes"]],
        "skills": ["count", "attribute", "object"],
    },
    {"prompt": "a dog", "atom_count": 1, "vqa_list": [["Are there dogs?", "Yes"]], "skills": ["object"]},
]


def test_geneval2_with_qwen3_vl(tmp_path: Path) -> None:
    """All scores follow from the probabilities of the first generated token."""
    model = save_qwen3_vl(tmp_path / "tiny-qwen3-vl")
    folder = tmp_path / "data" / "geneval2"
    folder.mkdir(parents=True)
    (folder / "geneval2_data.jsonl").write_text("\n".join(map(json.dumps, GENEVAL2_PROMPTS)))
    images = write_images(tmp_path / "images", ["00000", "00001"])
    judge = component("evaluation.judges.qwen_vl.QwenVLAnswerer", path=str(model), dtype="float32")
    metric = component("evaluation.metrics.geneval2.metric.GenEval2", prompts="geneval2", judge=judge)
    source = component("evaluation.prompts.geneval2.GenEval2Prompts", folder=str(folder.parent))
    (result,) = evaluate(tmp_path, {"geneval2": source}, [metric])
    assert result["metric"] == "geneval2 (tiny-qwen3-vl)"
    direct = QwenVLAnswerer(model, dtype="float32")
    rows = [
        direct.answer_probabilities(
            image,
            [f"{question} Answer in one word." for question, _ in prompt["vqa_list"]],
            [spellings(question, answer) for question, answer in prompt["vqa_list"]],
        )
        for image, prompt in zip(images, GENEVAL2_PROMPTS, strict=True)
    ]
    values = {name: score["value"] for name, score in result["scores"].items()}
    assert values == pytest.approx(
        {
            "soft_tifa_am": 50 * (sum(rows[0]) / 3 + rows[1][0]),
            "soft_tifa_gm": 50 * (np.prod(rows[0]) ** (1 / 3) + rows[1][0]),
            "skills_am/count": 100 * rows[0][0],
            "skills_am/attribute": 100 * rows[0][1],
            "skills_am/object": 50 * (rows[0][2] + rows[1][0]),
            "atomicity_gm/3": 100 * np.prod(rows[0]) ** (1 / 3),
            "atomicity_gm/1": 100 * rows[1][0],
        },
        rel=1e-4,
    )
    assert len(set(values.values())) > 4
