"""Tests that the drawings in docs/concepts.md show what the code computes, and that the SVG files are up to date."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from docs.drawings import __main__ as drawings
from docs.drawings.assa import QUERY, assa_data, rectangles
from docs.drawings.experiments import PRETRAIN, experiment
from docs.drawings.slicing import slicing_data
from pocketdit.backbones.attention import AdaptiveSparseSelfAttention
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.forms import LocalForm, first_form
from pocketdit.backbones.neighborhood import neighborhood_attention
from pocketdit.backbones.position import axial_rope
from pocketdit.backbones.spec import AdaptiveSparseAttention
from tests.conftest import ROOT

IMAGES = ROOT / "docs" / "images"
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
NUMBER = re.compile(r"-?\d+\.\d+")
names = pytest.mark.parametrize("name", drawings.DRAWINGS)


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    drawings.main(["--out", str(folder)])
    return folder


def read_metadata(path: Path, tag: str) -> str:
    """Return the text of a Dublin Core element in an SVG file."""
    element = ElementTree.parse(path).getroot().find(f".//{DUBLIN_CORE}{tag}")
    assert element is not None
    return "".join(element.itertext()).strip()


def painted(rectangles: Any, rows: int, columns: int) -> np.ndarray:
    """Return the number of rectangles (row, column, height, width) that cover each cell."""
    cells = np.zeros((rows, columns), int)
    for row, column, height, width in rectangles:
        cells[row : row + height, column : column + width] += 1
    return cells


@names
def test_committed_files_show_the_current_data(name: str) -> None:
    data = drawings.DRAWINGS[name][0]()
    assert json.loads(read_metadata(IMAGES / f"{name}.svg", "description")) == json.loads(json.dumps(data))


@names
def test_committed_files_have_the_current_labels(name: str, redrawn: Path) -> None:
    """Matplotlib writes the text of every label to the SVG file as a comment."""
    committed, now = ((folder / f"{name}.svg").read_text() for folder in (IMAGES, redrawn))
    assert re.findall(r"<!-- (.*?) -->", committed) == re.findall(r"<!-- (.*?) -->", now) != []


@names
def test_committed_files_have_the_current_shapes(name: str, redrawn: Path) -> None:
    if read_metadata(IMAGES / f"{name}.svg", "creator") != read_metadata(redrawn / f"{name}.svg", "creator"):
        pytest.skip("the committed file was drawn by another version of Matplotlib, whose paths may differ")
    committed, now = ((folder / f"{name}.svg").read_text() for folder in (IMAGES, redrawn))
    assert NUMBER.sub("", committed) == NUMBER.sub("", now)
    before, after = (np.array(NUMBER.findall(text), float) for text in (committed, now))
    np.testing.assert_allclose(before, after, atol=0.02)


@names
def test_drawing_twice_gives_the_same_bytes(name: str, redrawn: Path, tmp_path: Path) -> None:
    drawings.write(tmp_path)
    assert (tmp_path / f"{name}.svg").read_bytes() == (redrawn / f"{name}.svg").read_bytes()


def test_files_contain_no_date() -> None:
    assert not any("<dc:date>" in (IMAGES / f"{name}.svg").read_text() for name in drawings.DRAWINGS)


@pytest.mark.parametrize("form", ["looped", "masked"])
def test_local_mask_is_where_attention_has_a_gradient(form: LocalForm) -> None:
    data = assa_data()
    tokens = data["side"] ** 2
    q, k = torch.randn(2, 1, 1, tokens, 4, generator=torch.Generator().manual_seed(0)).unbind()
    v = torch.zeros(1, 1, tokens, 1, requires_grad=True)
    output = neighborhood_attention(q, k, v, data["blocks"], data["radius"], form)[0, 0, :, 0]
    seen = [torch.autograd.grad(value, v, retain_graph=True)[0][0, 0, :, 0] != 0 for value in output]
    drawn = painted(data["local"], tokens, tokens)
    np.testing.assert_array_equal(drawn, torch.stack(seen).int().numpy())
    query = QUERY[0] * data["side"] + QUERY[1]
    of_query = painted(data["local_query"], data["side"], data["side"])
    np.testing.assert_array_equal(of_query.ravel(), drawn[query])


def test_merged_keys_cover_every_token_once() -> None:
    data = assa_data()
    assert {(height, width) for _, _, height, width in data["groups"]} == {(2, 2)}
    np.testing.assert_array_equal(painted(data["groups"], data["side"], data["side"]), 1)


def test_both_branches_together_see_what_the_layer_sees() -> None:
    """With a gate of 0 (global branch), a token sees all tokens. With a gate of 1, it sees only its neighborhood."""
    data = assa_data()
    side = data["side"]
    torch.manual_seed(0)
    layer = AdaptiveSparseSelfAttention(8, 8, AdaptiveSparseAttention("assa", 1, data["blocks"], data["radius"]))
    query = QUERY[0] * side + QUERY[1]
    for gate, expected in ((-200.0, np.ones(side**2)), (200.0, painted(data["local_query"], side, side).ravel())):
        torch.nn.init.zeros_(layer.gate.weight)
        torch.nn.init.constant_(layer.gate.bias, gate)
        x = torch.randn(1, side**2, 8, requires_grad=True)
        cos_sin = axial_rope(side, side, 8, 100.0, torch.device("cpu"))
        output = layer.attend(x, (side, side), cos_sin, layer.choose_forms(x, first_form))
        (gradient,) = torch.autograd.grad(output[0, 0, query].sum(), x)
        np.testing.assert_array_equal((gradient[0] != 0).any(-1).int().numpy(), expected)


def test_slices_have_the_shapes_of_the_supernets_weights() -> None:
    data = slicing_data()
    spec = experiment(PRETRAIN).dit
    with torch.device("meta"):
        weights = ElasticDiT(spec).state_dict()
    block = "stages.0.blocks.0"
    assert list(weights[f"{block}.attention.q.weight"].shape) == data["q"][-1]
    assert list(weights[f"{block}.ffn.contract.weight"].shape) == data["ffn"][-1]
    assert data["cross_kv"][0] == data["cross_kv"][1] == list(weights[f"{block}.cross.kv.weight"].shape)
    tables = [list(weights[f"{block}.tables.{hidden}.offsets"].shape) for hidden in data["hidden"]]
    assert data["table"] == tables


def test_rectangles_cover_a_mask_exactly() -> None:
    mask = np.random.default_rng(0).random((7, 9)) < 0.5
    np.testing.assert_array_equal(painted(rectangles(mask), 7, 9), mask)
