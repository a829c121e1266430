"""Tests that the latency model's calibration reproduces the stored coefficients and writes its tables and plot."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.latency_calibration import main
from benchmarks.latency_coverage import SPREAD, Curves, normal, simulate
from benchmarks.latency_figures import OTHER_DEVICES, load_graphs, trace_graphs
from benchmarks.latency_variants import CHOSEN, OTHERS
from pocketdit.latency import predict
from pocketdit.latency.devices import find_device
from pocketdit.latency.fit import Variant, fit_coefficients, leave_one_out, root_mean_square
from pocketdit.latency.ladder import DEVICE, MEASURED, load_census


def test_stored_coefficients_are_fitted_to_the_ladder() -> None:
    censuses = {name: load_census(name) for name in MEASURED}
    fitted = fit_coefficients(censuses, MEASURED, list(censuses), find_device(DEVICE), CHOSEN)
    stored = predict.load_fit()
    assert stored.free == fitted.free
    assert stored.coefficients.stream == pytest.approx(fitted.coefficients.stream, rel=1e-3)
    assert stored.residuals == pytest.approx(fitted.residuals, abs=1e-3)
    left_out = leave_one_out(censuses, MEASURED, find_device(DEVICE), CHOSEN)
    errors = [math.log(left_out[name] / MEASURED[name]) for name in censuses]
    assert stored.left_out == pytest.approx(errors, abs=1e-3)
    assert len(stored.scaling) == len(OTHER_DEVICES)


def test_no_variant_with_more_coefficients_predicts_left_out_graphs_and_others_better() -> None:
    """A coefficient is added to the model only if both errors fall. See ``benchmarks.latency_variants``."""
    device = find_device(DEVICE)
    ladder = {name: load_census(name) for name in MEASURED}

    def left_out_error(variant: Variant) -> float:
        predicted = leave_one_out(ladder, MEASURED, device, variant)
        return root_mean_square([math.log(predicted[name] / MEASURED[name]) for name in ladder])

    chosen = left_out_error(CHOSEN)
    assert chosen == pytest.approx(0.33, abs=0.01)
    better = [variant.title for variant in OTHERS if len(variant.free) > 1 and left_out_error(variant) < chosen - 0.01]
    assert better == ["bandwidth and heat", "bandwidth and memory pressure"]  # but worse for other graphs


def test_intervals_from_left_out_errors_cover_a_fifth_graph() -> None:
    """In a linear model, the five errors are exchangeable, so the fifth is the largest with probability 1/5."""
    logs = np.linspace(-1, 1, 81)
    curves = Curves(logs, -logs[:, None] * np.array([0.9, 0.7, 0.5, 0.3, 0.6]))
    draws = 3000
    coverage = simulate(curves, normal, draws)
    three_errors = 3 * math.sqrt(0.8 * 0.2 / draws)
    assert coverage.left_out == pytest.approx(0.8, abs=0.02 + three_errors)
    assert coverage.regression == pytest.approx(0.8, abs=0.02 + three_errors)
    assert simulate(curves, lambda r, shape: 0 * normal(r, shape), 10).left_out == 1.0
    assert pytest.approx(root_mean_square(predict.load_fit().residuals), abs=0.02) == SPREAD


def test_traced_graphs_of_other_papers_have_their_sizes() -> None:
    graphs = load_graphs()
    parameters = {name: census.stored_bytes / 2e6 for name, census in graphs.items()}
    assert parameters["stable_diffusion"] == pytest.approx(866, abs=1)
    assert parameters["decoder"] == pytest.approx(1.37, abs=0.01)
    assert parameters["snapgen"] == pytest.approx(372, rel=0.02)  # published by SnapGen
    assert graphs["stable_diffusion"].flops == pytest.approx(2 * 0.8e12, rel=0.05)


@pytest.mark.slow
def test_stored_graphs_are_those_that_are_traced() -> None:
    assert {name: census.to_json() for name, census in trace_graphs().items()} == {
        name: census.to_json() for name, census in load_graphs().items()
    }


def test_tables_and_plot_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = predict.FILE.read_text()
    main(["--out", str(tmp_path / "latency.png"), "--draws", "20"])
    assert (tmp_path / "latency.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    assert "(A) plain DiT" in out
    assert "cache and memory (chosen)" in out
    assert "Stable Diffusion 2.1" in out
    assert "full at 4.3 bits" in out
    assert predict.FILE.read_text() == before  # without --save, the file is left unchanged
