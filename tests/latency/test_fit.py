"""Tests that the fit recovers known coefficients, and that its prediction intervals and errors are correct."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from pocketdit.export.common.census import Census, OperationCost
from pocketdit.latency import predict
from pocketdit.latency.cost import Coefficients, milliseconds
from pocketdit.latency.devices import Device, find_device
from pocketdit.latency.fit import (
    Fit,
    Variant,
    conformal_error,
    fit_coefficients,
    leave_one_out,
    prediction_interval,
)
from pocketdit.latency.ladder import DEVICE, MEASURED, load_census

PHONE = Device("test", "test", peak=17e12, memory=60e9, gpu=2e12, cache=24e6, calibrated=True)


def graph(convolutions: int, maps: int) -> Census:
    return Census(
        (
            OperationCost("c", "conv", (1, 1024, 1, 4096), 8 * 10**9, 8 << 20, 8 << 20, 2 << 20, 16.0,
                          count=convolutions),
            OperationCost("s", "softmax", (1, 4096, 1, 1024), 10**7, 8 << 20, 8 << 20, count=maps),
        )
    )  # fmt: skip


GRAPHS = {"a": graph(100, 5000), "b": graph(150, 1000), "c": graph(300, 200), "d": graph(400, 10)}


def test_fit_recovers_the_true_coefficients() -> None:
    true = Coefficients(stream=1.7, compute=0.55)
    measured = {name: milliseconds(census, PHONE, true) for name, census in GRAPHS.items()}
    fitted = fit_coefficients(GRAPHS, measured, list(GRAPHS), PHONE, Variant("both", ("stream", "compute")))
    assert fitted.coefficients.stream == pytest.approx(1.7, rel=1e-3)
    assert fitted.coefficients.compute == pytest.approx(0.55, rel=1e-3)
    assert fitted.residuals == pytest.approx([0.0] * 4, abs=1e-4)


def test_leave_one_out_ignores_the_measurement_of_the_predicted_graph() -> None:
    measured = {"a": 700.0, "b": 300.0, "c": 200.0, "d": 220.0}
    variant = Variant("stream", ("stream",))
    before = leave_one_out(GRAPHS, measured, PHONE, variant)
    after = leave_one_out(GRAPHS, measured | {"b": 30.0}, PHONE, variant)
    assert after["b"] == before["b"]
    assert after["a"] != pytest.approx(before["a"], rel=1e-3)


@pytest.mark.parametrize(
    ("errors", "coverage", "expected"),
    [
        ((0.1, -0.4, 0.2, 0.3), 0.8, 0.4),  # rank 4 of 5 corresponds to 80%
        ((0.1, -0.4, 0.2, 0.3), 0.6, 0.3),
        ((0.1, -0.4, 0.2), 0.8, math.inf),  # with three errors, the highest rank (3 of 4) corresponds to only 75%
        ((), 0.8, math.inf),
    ],
)
def test_conformal_error_is_an_order_statistic(errors: tuple[float, ...], coverage: float, expected: float) -> None:
    assert conformal_error(errors, coverage) == expected


def test_interval_is_as_wide_as_the_errors_of_left_out_graphs() -> None:
    fitted = Fit(("stream",), Coefficients(stream=2.0), (), (0.1, -0.3, 0.2, 0.0), (0.4, 0.1, -0.1, 0.2, 0.0))
    middle, low, high = prediction_interval(GRAPHS["b"], PHONE, fitted)
    assert math.log(high / middle) == pytest.approx(0.3)
    assert math.log(middle / low) == pytest.approx(0.3)
    middle, low, high = prediction_interval(GRAPHS["b"], replace(PHONE, calibrated=False), fitted)
    assert math.log(high / middle) == pytest.approx(0.5)  # sqrt(0.3^2 + 0.4^2)


def test_predictions_rank_the_ladder_like_the_paper() -> None:
    """As in the paper, full attention is slowest and sparse attention fastest. All errors are below a factor of 1.6."""
    predicted = {name: predict.predict(load_census(name), find_device(DEVICE)).milliseconds for name in MEASURED}
    assert predicted["a"] > predicted["b"] > max(predicted["c"], predicted["d"])
    assert predicted["d"] > predicted["c"]
    for name, measured in MEASURED.items():
        assert 1 / 1.6 < predicted[name] / measured < 1.6


def test_faster_devices_are_predicted_to_be_faster() -> None:
    census = load_census("d")
    slow, fast = (predict.predict(census, find_device(name)).milliseconds for name in ("iphone13pro", "mac_m4"))
    assert fast < predict.predict(census, find_device(DEVICE)).milliseconds < slow


def test_saved_fit_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = Fit(("stream",), Coefficients(stream=1.5), (0.1, -0.2), (0.3, -0.4), (0.5,))
    predict.save_fit(fitted, tmp_path / "coefficients.json")
    monkeypatch.setattr(predict, "FILE", tmp_path / "coefficients.json")
    assert predict.load_fit.__wrapped__() == fitted
