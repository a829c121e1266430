"""Calibration finds what made the figures and leaves out what it says; the stored coefficients are its own."""

import math
from dataclasses import replace

import pytest

from pocketdit.export.census import Census, OperationCost
from pocketdit.latency import coefficients
from pocketdit.latency.calibrate import CHOSEN, stored_at
from pocketdit.latency.cost import Coefficients, milliseconds
from pocketdit.latency.devices import Device, find_device
from pocketdit.latency.fit import Fit, Variant, fit, interval, leave_one_out
from pocketdit.latency.ladder import DEVICE, MEASURED, load_census

PHONE = Device("test", "test", peak=17e12, memory=60e9, gpu=2e12)


def graph(convolutions: int, maps: int) -> Census:
    return Census(
        (
            OperationCost("c", "conv", (1, 1024, 1, 4096), 8 * 10**9, 8 << 20, 8 << 20, 2 << 20, 16.0,
                          count=convolutions),
            OperationCost("s", "softmax", (1, 4096, 1, 1024), 10**7, 8 << 20, 8 << 20, count=maps),
        )
    )  # fmt: skip


GRAPHS = {"a": graph(100, 5000), "b": graph(150, 1000), "c": graph(300, 200), "d": graph(400, 10)}


def test_the_fit_finds_the_coefficients_that_made_the_figures() -> None:
    true = Coefficients(stream=1.7, compute=0.55)
    measured = {name: milliseconds(census, PHONE, true) for name, census in GRAPHS.items()}
    found = fit(GRAPHS, measured, list(GRAPHS), PHONE, Variant("both", ("stream", "compute")))
    assert found.coefficients.stream == pytest.approx(1.7, rel=1e-3)
    assert found.coefficients.compute == pytest.approx(0.55, rel=1e-3)
    assert found.spread < 1e-4 and found.freedom == 2
    middle, low, high = interval(graph(200, 400), PHONE, found)
    assert low == pytest.approx(high, rel=1e-2) and low <= middle <= high


def test_a_graphs_own_figure_does_not_touch_its_left_out_prediction() -> None:
    measured = {"a": 700.0, "b": 300.0, "c": 200.0, "d": 220.0}
    variant = Variant("stream", ("stream",))
    before = leave_one_out(GRAPHS, measured, PHONE, variant)
    after = leave_one_out(GRAPHS, measured | {"b": 30.0}, PHONE, variant)
    assert after["b"] == before["b"]
    assert after["a"] != pytest.approx(before["a"], rel=1e-3)


def test_the_interval_widens_with_errors_and_with_distance() -> None:
    small = Fit(("stream",), Coefficients(stream=2.0), (0.1, -0.1, 0.0), ((1.0,),))
    large = replace(small, residuals=(0.2, -0.2, 0.0))
    widths = [math.log(interval(GRAPHS["b"], PHONE, one)[2] / interval(GRAPHS["b"], PHONE, one)[1])
              for one in (small, large)]  # fmt: skip
    assert widths[1] == pytest.approx(2 * widths[0])
    # All of a is streamed traffic, so it carries the coefficient's whole error; d hardly depends on it.
    both = [interval(GRAPHS[name], PHONE, small) for name in "ad"]
    ends = [math.log(high / middle) for middle, _, high in both]
    assert ends[0] > 1.2 * ends[1]


def test_stored_coefficients_are_those_of_the_ladder() -> None:
    censuses = {name: load_census(name) for name in MEASURED}
    found = fit(censuses, MEASURED, list(censuses), find_device(DEVICE), CHOSEN)
    stored = coefficients.stored()
    assert stored.free == found.free
    assert stored.coefficients.stream == pytest.approx(found.coefficients.stream, rel=1e-3)
    assert stored.residuals == pytest.approx(found.residuals, abs=1e-3)
    assert stored.information[0] == pytest.approx(found.information[0], rel=1e-2)


def test_the_model_puts_the_ladder_in_the_papers_order_of_families() -> None:
    """Full attention on all tokens is slowest, three stages next, sparse attention fastest; and it is wrong by less
    than a factor of 1.6 anywhere.
    """
    predicted = {name: coefficients.predict(load_census(name), find_device(DEVICE)).milliseconds for name in MEASURED}
    assert predicted["a"] > predicted["b"] > max(predicted["c"], predicted["d"])
    assert predicted["d"] > predicted["c"]
    for name, paper in MEASURED.items():
        assert 1 / 1.6 < predicted[name] / paper < 1.6


def test_a_faster_device_is_faster() -> None:
    census = load_census("d")
    slow, fast = (coefficients.predict(census, find_device(name)).milliseconds for name in ("iphone13pro", "mac_m4"))
    assert fast < coefficients.predict(census, find_device(DEVICE)).milliseconds < slow


def test_palettes_change_the_bytes_of_convolutions_alone() -> None:
    census = replace(GRAPHS["a"], stored_bytes=300 << 20)
    smaller = stored_at(census, 4.0)
    assert smaller.weight_bytes == census.weight_bytes // 4
    assert census.stored_bytes - smaller.stored_bytes == census.weight_bytes - smaller.weight_bytes
    assert smaller.flops == census.flops and smaller.activation_bytes == census.activation_bytes


def test_saving_and_reading_gives_the_same_fit(tmp_path, monkeypatch) -> None:
    found = Fit(("stream",), Coefficients(stream=1.5), (0.1, -0.2), ((1.25,),))
    coefficients.save(found, tmp_path / "coefficients.json")
    monkeypatch.setattr(coefficients, "FILE", tmp_path / "coefficients.json")
    assert coefficients.stored.__wrapped__() == found
