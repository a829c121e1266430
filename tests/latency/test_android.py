"""Tests timing with a fake adb: parsing of benchmark_model's output, adb failures, and the commands that are run."""

from pathlib import Path

import pytest

from pocketdit.errors import RunError
from pocketdit.latency.android import AndroidDevice, Timing, find_device, measure, parse_benchmark

OUTPUT = """\
INFO: STARTING!
INFO: Running benchmark for at least 2 iterations and at least 0.5 seconds but terminate if exceeding 3600 seconds.
INFO: count=2 first=1357602 curr=93000 min=93000 max=1357602 avg=725301 std=632301 p5=93000 median=1357602 p95=1357602
INFO: Running benchmark for at least 20 iterations and at least 1 seconds but terminate if exceeding 3600 seconds.
INFO: count=20 first=1.2e+05 curr=91203 min=90877 max=1.2e+05 avg=91544 std=912 p5=90911 median=91310 p95=93870
INFO: Inference timings in us: Init: 5579, First inference: 1357602, Warmup (avg): 725301, Inference (avg): 91544
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE
"""

FAKE_ADB = """\
#!/bin/sh
echo "$@" >> {log}
case "$*" in
  devices) printf 'List of devices attached\\n{devices}\\n' ;;
  *getprop*manufacturer) echo Google ;;
  *getprop*model) echo "Pixel 9" ;;
  *getprop*release) echo 16 ;;
  *--graph=*) cat {output} ;;
esac
"""


@pytest.fixture
def fake_adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a fake adb with one phone, and return the path of the log in which adb stores its arguments."""
    return install_fake_adb(tmp_path, monkeypatch, "R58\\tdevice")


def install_fake_adb(folder: Path, monkeypatch: pytest.MonkeyPatch, devices: str) -> Path:
    log, output, program = folder / "log", folder / "output", folder / "bin" / "adb"
    output.write_text(OUTPUT)
    program.parent.mkdir()
    program.write_text(FAKE_ADB.format(log=log, output=output, devices=devices))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return log


def test_timing_excludes_the_warm_up() -> None:
    assert parse_benchmark(OUTPUT) == Timing(91.310, 90.911, 93.870, 20)


def test_older_builds_report_a_mean_without_percentiles() -> None:
    old = "\n".join(line.partition(" p5=")[0] for line in OUTPUT.splitlines())
    assert parse_benchmark(old) == Timing(91.544, 90.877, 120.0, 20, "minimum to maximum", is_mean=True)


def test_single_pass() -> None:
    text = "count=1 curr=3512391\n\nInference timings in us: Init: 1, First inference: 2, Inference (avg): 3.5e+06\n"
    assert parse_benchmark(text) == Timing(3512.391, 3512.391, 3512.391, 1, "minimum to maximum")


@pytest.mark.parametrize("text", ["", "ERROR: Failed to load model /data/local/tmp/x.tflite\n", "count=3 curr=5\n"])
def test_output_without_a_timing_is_a_one_line_error(text: str) -> None:
    last = text.strip() or "nothing"
    with pytest.raises(RunError, match="benchmark_model reported no timing") as error:
        parse_benchmark(text)
    assert last in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_adb_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match=r"^adb is not installed"):
        find_device()


def test_commands_for_a_device(fake_adb: Path, tmp_path: Path) -> None:
    device = find_device()
    assert device == AndroidDevice("R58", "Google Pixel 9", "Android 16")
    model, tool = tmp_path / "net.tflite", tmp_path / "benchmark_model"
    for file in (model, tool):
        file.write_bytes(b"x")
    assert measure(model, tool, device, threads=4, runs=20, gpu=True).median == pytest.approx(91.31)
    commands = fake_adb.read_text().splitlines()[-5:]
    assert commands[:3] == [
        f"-s R58 push {tool} /data/local/tmp/benchmark_model",
        f"-s R58 push {model} /data/local/tmp/net.tflite",
        "-s R58 shell chmod +x /data/local/tmp/benchmark_model",
    ]
    assert "--graph=/data/local/tmp/net.tflite --num_threads=4 --num_runs=20" in commands[3]
    assert "--use_gpu=true" in commands[3]
    assert commands[4] == "-s R58 shell rm -f /data/local/tmp/net.tflite"


@pytest.mark.parametrize(
    ("devices", "serial", "message"),
    [
        ("", None, "no Android device is connected"),
        (
            "A1\\tdevice\\nB2\\tdevice",
            None,
            "devices are connected; set litert.serial to one of A1, B2",
        ),
        ("A1\\tunauthorized", None, "Android device A1 is unauthorized"),
        ("A1\\tdevice", "C3", "Android device C3 is not connected; connected devices: A1"),
    ],
)
def test_unusable_devices_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: str, serial: str | None, message: str
) -> None:
    install_fake_adb(tmp_path, monkeypatch, devices)
    with pytest.raises(RunError, match=message):
        find_device(serial)


def test_failing_adb_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_fake_adb(tmp_path, monkeypatch, "A1\\tdevice")
    (tmp_path / "bin" / "adb").write_text("#!/bin/sh\necho 'adb: error: device offline' >&2\nexit 1\n")
    with pytest.raises(RunError, match=r"^adb devices failed: adb: error: device offline$"):
        find_device()


def test_missing_files_are_reported_before_anything_is_pushed(fake_adb: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="benchmark_model: no such file"):
        measure(fake_adb.parent / "output", tmp_path / "benchmark_model", AndroidDevice("R58", "", ""))
    assert not fake_adb.exists()
