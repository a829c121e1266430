"""Tests that the benchmarks run at tiny sizes, print their verdicts and write their results."""

import importlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

KEYS = {"machine", "benchmark", "rows", "ratio", "required", "met"}


def run_quick(name: str, folder: Path, *options: str) -> dict[str, Any]:
    path = folder / f"{name}.json"
    importlib.import_module(f"benchmarks.{name}").main(["--quick", "--json", str(path), *options])
    result: dict[str, Any] = json.loads(path.read_text())
    assert set(result) >= KEYS
    assert result["benchmark"] == name
    assert set(result["machine"]) == {"cpu", "cores", "threads", "torch", "gpu"}
    ratio = result["ratio"]
    assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    return result


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_attention(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_quick("attention", tmp_path)
    assert last_line(capsys).startswith("ratio at 64 tokens: full, ")
    assert {row["dtype"] for row in result["rows"]} == {"float32", "bfloat16"}
    assert {row["name"] for row in result["forms"]} == {
        f"embedded, {part}" for part in ("full", "global branch", "one block", "local branch", "cross")
    }
    assert all(seconds > 0 for row in result["forms"] for seconds in row["seconds"].values())
    for row in result["rows"]:
        assert {"ASSA", "full, shared", "full, repeated", "full, folded"} <= set(row["seconds"])
        assert row["fastest"] in row["seconds"]
        # Each of 16 blocks sees itself and one neighbor on either side.
        assert row["score_fraction"] == pytest.approx(0.25 + 46 / 256)


def test_timed_attention_matches_the_backbone() -> None:
    """The timed call returns what the module computes from its projections, and all forms of full attention agree."""
    from benchmarks.attention import assa_call, build_assa, full_implementations, grid_sides
    from pocketdit.backbones.forms import first_form
    from pocketdit.backbones.position import axial_rope

    module, x, qkv = build_assa(64, torch.device("cpu"))
    rotation = axial_rope(*grid_sides(64), module.head_dim, 10_000.0, x.device)
    expected = module.attend(x, grid_sides(64), rotation, module.choose_forms(x, first_form))
    torch.testing.assert_close(assa_call(module, x, qkv)(), expected)
    first, *others = [attend(*qkv) for attend in full_implementations(torch.device("cpu")).values()]
    for other in others:
        torch.testing.assert_close(other, first)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_forward(tmp_path: Path, capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    result = run_quick("forward", tmp_path, "--dtype", dtype)
    assert result["dtype"] == dtype
    assert last_line(capsys).startswith("ratio: (A / D in time) / (A / D in FLOPs) = ")
    rows = {row["network"]: row for row in result["rows"]}
    assert set(rows) == {"A", "D", "PixArt", "Sana"}
    assert all(row["flops"] > 0 and row["parameters"] > 0 and row["seconds"] for row in rows.values())
    expected = rows["A"]["seconds"][0] / rows["D"]["seconds"][0] / (rows["A"]["flops"] / rows["D"]["flops"])
    assert result["ratio"]["median"] == pytest.approx(expected)


def test_peers_have_as_many_parameters_as_ladder_d() -> None:
    from benchmarks import forward
    from pocketdit.backbones.dit import ElasticDiT
    from pocketdit.training.cost import count_parameters

    spec = forward.ladder_spec("D", quick=False)
    with torch.device("meta"):
        parameters = count_parameters(ElasticDiT(spec))
    for build in (forward.build_pixart, forward.build_sana):
        peer = forward.build_to_size(partial(build, spec=spec, sides=(128, 128)), parameters)
        assert count_parameters(peer) == pytest.approx(parameters, rel=forward.PARAMETER_TOLERANCE)


def test_elastic_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_quick("elastic_step", tmp_path)
    assert last_line(capsys).startswith("ratio: elastic / (full + half) = ")
    (row,) = result["rows"]
    assert set(row["seconds"]) == set(row["memory"]) == {"elastic", "full", "half"}
    separate = row["seconds"]["full"][0] + row["seconds"]["half"][0]
    assert result["ratio"]["median"] == pytest.approx(row["seconds"]["elastic"][0] / separate)
    assert result["required_memory"] == 1.0


def test_training_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_quick("training_step", tmp_path)
    assert last_line(capsys).startswith("ratio: elastic_pretrain step / floor = ")
    (row,) = result["rows"]
    assert set(row["seconds"]) == {"step", "data wait", "forward", "backward", "update", "EMA"}
    assert all(seconds[0] > 0 for seconds in row["seconds"].values())
    inside = sum(row["seconds"][phase][0] for phase in ("forward", "backward", "update", "EMA"))
    assert row["seconds"]["step"][0] == pytest.approx(inside)
    assert result["ratio"]["median"] == pytest.approx(row["steps"][0] / row["floors"][0])
    assert row["flops"][0] > 0
    names = ["sample, 28 steps", "sample, 4 steps", "evaluate, 4 steps"]
    assert [item["name"] for item in row["inference"]] == names
    assert all(item["ratio"]["median"] > 0 for item in row["inference"])


@pytest.mark.slow
def test_plan_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_quick("plan_memory", tmp_path)
    assert last_line(capsys).startswith("ratio: largest deviation ")
    (row,) = result["rows"]
    assert row["experiment"] == "elastic_pretrain"
    assert row["deviation"] == pytest.approx(row["estimate"] / row["peak"] - 1)
    assert row["peak"] > 200 << 20  # importing torch alone needs more than this


def test_startup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import startup

    startup.main(["--quick", "--json", str(tmp_path / "startup.json")])
    result = json.loads((tmp_path / "startup.json").read_text())
    assert last_line(capsys).startswith("help and incorrect use: ")
    assert [row["command"] for row in result["rows"]] == [command.words for command in startup.QUICK]
    assert len(startup.COMMANDS) == 10
    slowest = max(row["seconds"][0] for row in result["rows"])
    assert 0 < slowest == result["help and incorrect use"]["median"]


def test_a_command_with_another_exit_status_is_not_timed(tmp_path: Path) -> None:
    from benchmarks.startup import Command, seconds

    with pytest.raises(RuntimeError, match=r"exited with status 2: .*no_such_file"):
        seconds(Command("run no_such_file.yaml"), tmp_path)


def test_separate_networks_are_as_large_as_the_sub_networks() -> None:
    from benchmarks.elastic_step import NETWORKS, cases, network_spec
    from pocketdit.backbones.dit import ElasticDiT, extract_subnetwork
    from pocketdit.training.cost import count_parameters

    spec = cases()["width 512"].experiment.dit
    with torch.device("meta"):
        elastic, full, half = (ElasticDiT(network_spec(network, spec)) for network in NETWORKS)
    assert count_parameters(full) == count_parameters(extract_subnetwork(elastic, 1.0))
    assert count_parameters(half) == count_parameters(extract_subnetwork(elastic, 0.5))


def test_peak_memory_is_printed_for_the_parent_process(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.elastic_step import main

    main(["--peak-of", "half", "--case", "tiny"])
    assert json.loads(last_line(capsys)) >= 0


def test_loader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_quick("loader", tmp_path)
    assert last_line(capsys).startswith("ratio: data module / webdataset = ")
    assert {row["data"] for row in result["rows"]} == {"scenes, 128", "images, 256"}
    for row in result["rows"]:
        assert {"data module", "webdataset"} <= set(row["samples_per_second"])
        assert row["over_webdataset"]["median"] > 0


def test_tiny_decoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_quick("tiny_decoder", tmp_path)
    assert last_line(capsys).startswith("ratio: ")
    rows = {row["decoder"]: row for row in result["rows"]}
    assert set(rows) == {"tiny", "Flux", "Qwen-Image"}
    assert result["held_out"] == []
    assert all(row["flops"] > 0 and row["parameters"] > 0 and row["memory"] >= 0 for row in rows.values())


@pytest.mark.slow
def test_sweep_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_quick("sweep_engine", tmp_path)
    assert last_line(capsys).startswith("ratio: one worker / two = ")
    assert [row["trial"] for row in result["rows"]] == [0, 1]
    assert all(0 < row["overhead"] < row["seconds"] for row in result["rows"])
    ((one, two),) = result["spans"]
    # The test must also pass on a busy machine, so it only checks lower bounds: the time that the trials sleep.
    assert one > 2
    assert two > 1
    assert result["ratio"]["median"] == pytest.approx(one / two)


def test_published_decoders_have_their_published_sizes() -> None:
    from benchmarks.tiny_decoder import DECODERS
    from pocketdit.training.cost import count_parameters

    with torch.device("meta"):
        sizes = {name: count_parameters(build(False)) for name, build in DECODERS.items()}
    assert sizes["Flux"] == pytest.approx(49.5e6, rel=0.01)
    assert sizes["Qwen-Image"] == pytest.approx(73.3e6, rel=0.01)
    assert sizes["tiny"] < 0.03 * sizes["Flux"]
