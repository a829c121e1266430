"""Tests that ``lightning evaluate --golden`` compares scores with expected values."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pocketdit.commands.main import main

FILES = ("frechet", "dpg_logic", "geneval_logic", "geneval2_soft_tifa", "t2i_2d_position", "t2i_numeracy")

FRECHET = {"cases": [{"d": 1, "mu1": [0.0], "mu2": [3.0], "sigma1": [[4.0]], "sigma2": [[1.0]], "fd": 10.0}]}
DPG = {
    "cases": [
        {
            "dependency": {"1": [0], "2": [1]},
            "tuple": {"1": "entity - whole (x)", "2": "attribute - color (x)"},
            "answers_per_image": [{"1": "no", "2": "yes"}, {"1": "yes", "2": "yes"}],
            "prompt_score": 0.5,
            "official_category_scores_raw_last_image": {"1": 1.0, "2": 1.0},
        }
    ]
}
POSITION = {
    "cases": [{"locality": "on the left of", "box1": [0, 200, 50, 250], "box2": [100, 200, 150, 250], "score": 1.0}]
}

NUMERACY = {
    "cases": [
        {
            "asked": [["cat", 2], ["dog", 1]],
            "detections": [
                ["cat", [0, 0, 9, 9]],
                ["cat", [20, 0, 29, 9]],
                ["dog", [40, 0, 49, 9]],
                ["dog", [0, 40, 9, 49]],
            ],
            "numeracy": 0.75,
        }
    ]
}


SOFT_TIFA = {
    "cases": [
        {
            "prompts": [{"atom_count": 3, "skills": ["count", "object"], "probabilities": [0.25, 1.0]}],
            "soft_tifa_am": 62.5,
            "soft_tifa_gm": 50.0,
            "skills_am": {"count": 25.0, "object": 100.0},
            "atomicity_gm": {"3": 50.0},
        }
    ]
}


@pytest.mark.parametrize("data", [FRECHET, DPG, POSITION, NUMERACY, SOFT_TIFA])
def test_hand_computed_cases_agree_and_a_wrong_case_is_reported(
    data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cases.json"
    file.write_text(json.dumps(data))
    assert main(["evaluate", "--golden", str(file)]) == 0
    assert capsys.readouterr().out == "1 of 1 agree\n"
    wrong = json.loads(json.dumps(data))
    for key in ("fd", "prompt_score", "score", "numeracy", "soft_tifa_gm"):
        if key in wrong["cases"][0]:
            wrong["cases"][0][key] += 0.125
    file.write_text(json.dumps({"cases": [*data["cases"], *wrong["cases"]]}))
    assert main(["evaluate", "--golden", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == "1 of 2 agree\n"
    assert str(file) in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"cases": []}', '{"cases": [{"x": 1}]}', '{"cases": [{"sigma1": 1}]}']
)
def test_invalid_files_are_reported_in_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cases.json"
    file.write_text(text)
    assert main(["evaluate", "--golden", str(file)]) != 0
    err = capsys.readouterr().err
    assert str(file) in err
    assert err.count("\n") == 1


def test_several_files_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, data in zip(files, (FRECHET, DPG), strict=True):
        file.write_text(json.dumps(data))
    assert main(["evaluate", "--golden", *map(str, files)]) == 0
    assert capsys.readouterr().out == f"{files[0]}: 1 of 1 agree\n{files[1]}: 1 of 1 agree\n"
    assert main(["evaluate", "x.yaml", "--table"]) == 2
    assert "cannot be combined with --golden, --compare or --table" in capsys.readouterr().err


@pytest.mark.skipif("POCKETDIT_EVALUATION_DATA" not in os.environ, reason="POCKETDIT_EVALUATION_DATA is not set")
@pytest.mark.parametrize("name", FILES)
def test_published_values_agree(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path(os.environ["POCKETDIT_EVALUATION_DATA"]) / "golden" / f"{name}.json"
    assert main(["evaluate", "--golden", str(file)]) == 0
    agreeing, _, cases, _ = capsys.readouterr().out.split()
    assert agreeing == cases
    assert int(cases) > 0
