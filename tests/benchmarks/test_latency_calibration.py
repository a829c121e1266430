"""The calibration of the latency model reproduces the stored coefficients and writes its tables and plot."""

from pathlib import Path

import pytest

from benchmarks.latency_calibration import CHOSEN, main, with_palettes
from pocketdit.latency import predict
from pocketdit.latency.devices import find_device
from pocketdit.latency.fit import fit_coefficients
from pocketdit.latency.ladder import DEVICE, MEASURED, load_census


def test_stored_coefficients_are_fitted_to_the_ladder() -> None:
    censuses = {name: load_census(name) for name in MEASURED}
    fitted = fit_coefficients(censuses, MEASURED, list(censuses), find_device(DEVICE), CHOSEN)
    stored = predict.load_fit()
    assert stored.free == fitted.free
    assert stored.coefficients.stream == pytest.approx(fitted.coefficients.stream, rel=1e-3)
    assert stored.residuals == pytest.approx(fitted.residuals, abs=1e-3)
    assert stored.information[0] == pytest.approx(fitted.information[0], rel=1e-2)


def test_palettes_change_only_the_bytes_of_convolutions() -> None:
    census = load_census("small")
    smaller = with_palettes(census, 4.0)
    for before, after in zip(census.operations, smaller.operations, strict=True):
        if before.kind in ("conv", "conv_transpose"):
            assert after.weight_bits == 4.0
            assert after.weight_bytes == round(before.weight_bytes * 4.0 / before.weight_bits)
        else:
            assert after == before
    assert census.stored_bytes - smaller.stored_bytes == census.weight_bytes - smaller.weight_bytes
    assert smaller.flops == census.flops
    assert smaller.activation_bytes == census.activation_bytes


def test_tables_and_plot_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = predict.FILE.read_text()
    main(["--out", str(tmp_path / "latency.png")])
    assert (tmp_path / "latency.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    assert "(A) plain DiT" in out
    assert "streamed bandwidth (chosen)" in out
    assert "full at 4.3 bits" in out
    assert predict.FILE.read_text() == before  # without --save, the file is left unchanged
