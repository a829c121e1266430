"""Tests recommendations from synthetic results: limits, the best candidate, sources of quality and cost, and errors."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.contract import Result, Score
from evaluation.report import results as report
from pocketdit.artifacts.run_folder import create, find
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.export.common.census import Census, OperationCost
from pocketdit.latency.candidates import Candidate, Cost, choose_best, reason_against
from pocketdit.latency.deployments import runs_to_deploy
from pocketdit.latency.devices import DISPATCH, SUSTAINED, find_device
from pocketdit.latency.formats import FORMATS, Format
from pocketdit.latency.quality import (
    EvaluatedScore,
    OperatingPoint,
    Quality,
    operating_point_of,
    quality_from_scores,
)
from pocketdit.latency.records import add_record, content_hash, measurement
from pocketdit.latency.settings import Limits
from pocketdit.tracking.journal import FILE_NAME, Journal
from tests.conftest import PRETRAIN, ROOT

QUANTIZE = ROOT / "experiments" / "quantize_finetune.yaml"
RUN = "elastic_pretrain/r"
RUNS = {RUN: 16.0}


def point(width: float, steps: int = 4, guidance: float = 1.0, sampler: str = "euler") -> OperatingPoint:
    return OperatingPoint(RUN, 16.0, width, steps, sampler, guidance)


def candidate(
    width: float, quality: float | None, ms: float, memory: int = 10, steps: int = 4, target: Format = FORMATS[0]
) -> Candidate:
    return Candidate(point(width, steps), target, quality, Cost(ms, 0.7 * ms, 1.5 * ms, 100.0, memory, "predicted"))


THREE = [candidate(0.375, 0.6, 200), candidate(0.5, 0.7, 360), candidate(1.0, 0.8, 1100, memory=1000)]


@pytest.mark.parametrize(
    ("limits", "width"),
    [
        (Limits(), 1.0),
        (Limits(step_ms=400), 0.5),
        (Limits(image_ms=1600), 0.5),  # 4 steps of 360 ms and 100 ms for the rest take 1540 ms
        (Limits(image_ms=1500), 0.375),
        (Limits(memory_bytes=999), 0.5),
        (Limits(step_ms=199), None),
    ],
)
def test_best_candidate_within_limits(limits: Limits, width: float | None) -> None:
    best = choose_best(THREE, True, limits)
    assert (best.point.width if best else None) == width


def test_limits_within_the_interval_are_uncertain() -> None:
    """The predicted latency is 360 ms, with an interval from 252 ms to 540 ms."""
    limits = [Limits(step_ms=limit) for limit in (200.0, 400.0, 600.0)]
    assert [(THREE[1].fits(limit), THREE[1].is_uncertain(limit)) for limit in limits] == [
        (False, False), (True, True), (True, False),
    ]  # fmt: skip


def test_lowest_loss_wins_and_the_fastest_candidate_breaks_ties() -> None:
    assert choose_best(THREE, False, Limits()) is THREE[0]
    slow, fast = candidate(0.5, 0.7, 360, steps=28), candidate(0.5, 0.7, 360, steps=4)
    assert choose_best([slow, fast], True, Limits()) is fast


def test_candidates_without_a_recorded_quality_are_never_chosen() -> None:
    assert choose_best([candidate(1.0, None, 100), THREE[0]], True, Limits()) is THREE[0]
    assert choose_best([candidate(1.0, None, 100)], True, Limits()) is None


def test_every_other_candidate_has_a_reason_against_it() -> None:
    limits = Limits(step_ms=400, memory_bytes=2e6)
    best = candidate(0.5, 0.7, 360)
    others = {
        "1100 ms per step > 400": candidate(1.0, 0.8, 1100),
        "1100 ms per step > 400; 3 MB > 2": candidate(1.0, 0.8, 1100, memory=3_000_000),
        "no recorded quality": candidate(1.0, None, 100),
        "worse geneval": candidate(0.375, 0.6, 200),
        "slower, with the same quality": candidate(0.5, 0.7, 370),
        "more memory, with the same quality": candidate(0.5, 0.7, 360, memory=11),
        "equal, but Core ML is preferred": candidate(0.5, 0.7, 360, target=FORMATS[1]),
    }
    everyone = [best, *others.values()]
    assert choose_best(everyone, True, limits) is best
    reasons = [reason_against(one, best, "geneval", limits) for one in everyone]
    assert reasons == ["chosen", *others]


def test_guidance_and_heun_take_more_evaluations() -> None:
    cost = Cost(100.0, 90.0, 120.0, 50.0, 1, "predicted")
    assert Candidate(point(1, 10), FORMATS[0], 0, cost).image_ms == 1050
    assert Candidate(point(1, 10, guidance=4.0), FORMATS[0], 0, cost).image_ms == 2050
    assert Candidate(point(1, 10, sampler="heun"), FORMATS[0], 0, cost).image_ms == pytest.approx(1950)
    batched = Candidate(point(1, 10, guidance=4.0), FORMATS[0], 0, replace(cost, batch=2))
    assert batched.step_ms == 100
    assert batched.image_ms == 1050


def provenance(width: float, run: str = RUN, **changes: Any) -> dict[str, dict[str, Any]]:
    entry = {"subject": "run", "run": run, "width": width, "steps": 4, "sampler": "euler", "guidance": 1.0,
             "size": [128, 128]}  # fmt: skip
    return {"geneval": entry | changes}


def score(
    width: float, value: float, images: int = 2, evaluation: str = "embedded", metric: str = "geneval (rules)",
    **changes: Any,
) -> EvaluatedScore:  # fmt: skip
    return EvaluatedScore(evaluation, metric, True, value, images, provenance(width, **changes))


def test_scores_of_other_runs_or_mixed_settings_are_ignored() -> None:
    assert operating_point_of(provenance(0.5), RUNS) == point(0.5)
    assert operating_point_of(provenance(0.5, run="other/r"), RUNS) is None
    assert operating_point_of(provenance(0.5) | {"dpg": provenance(0.5, steps=8)["geneval"]}, RUNS) is None
    assert quality_from_scores([score(0.5, 0.7, run="other/r")], RUNS, "") is None


def test_only_comparable_scores_are_compared() -> None:
    scores = [
        score(0.5, 0.1),
        score(0.5, 0.7),  # replaces the first score, which is older
        score(1.0, 0.8),
        score(1.0, 0.9, images=50),  # not comparable because of the number of images
        score(0.375, 0.9, evaluation="other"),
        score(0.375, 0.9, size=[256, 256]),
        score(0.375, 1.0, metric="dpg (rules)"),
    ]
    quality = quality_from_scores(scores, RUNS, "")
    assert quality is not None
    assert quality.metric == "geneval (rules)"
    assert quality.values == {point(0.5): 0.7, point(1.0): 0.8}
    assert "embedded, 2 images of 128x128" in quality.source
    by_name = quality_from_scores(scores, RUNS, "dpg")
    assert isinstance(by_name, Quality)
    assert by_name.values == {point(0.375): 1.0}


def census(flops: int) -> Census:
    return Census((OperationCost("a", "conv", (1, 8, 1, 4), flops, 100, 100, 10**6, 16.0),), 10**6)


def milliseconds(flops: int) -> float:
    phone = find_device("iphone16promax")
    return 1000 * (flops / (SUSTAINED * phone.peak) + 10**6 / phone.memory + DISPATCH)


class Project:
    """A folder with a run, evaluations and exports, in which ``lightning recommend`` can be run."""

    def __init__(self, folder: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        loaded = load(PRETRAIN, tiny, Experiment)
        self.run = create(folder / "runs", "elastic_pretrain", "r", loaded.to_yaml())

    def quantize(self, width: float, bits: float) -> str:
        """Create a quantized run without weights, and return its name."""
        loaded = load(QUANTIZE, [f"backbone.widths=[{width}]", f"parents.start={RUN}"], Experiment)
        folder = create(self.folder / "runs", "quantize_finetune", f"q-{width}", loaded.to_yaml())
        (folder.path / "quantization.json").write_text(json.dumps({"average_bits": bits}))
        return folder.name

    def evaluate(self, width: float, value: float, run: str = RUN) -> None:
        path = self.folder / "evaluations" / "embedded" / f"{width}-{value}"
        path.mkdir(parents=True)
        scores = {"overall": Score(value, 2, {"0": value, "1": value})}
        results = (Result("geneval (rules)", scores, {}, True),)
        report.save(report.Report("embedded", "x", results, provenance(width, run)), path, resamples=10)

    def export(self, width: float, flops: int, kind: str = "coreml") -> Path:
        path = self.folder / "exports" / f"b-{width}{'' if kind == 'coreml' else f'-{kind}'}"
        path.mkdir(parents=True)
        (path / "census.json").write_text(census(flops).to_json())
        content = {"kind": kind, "weights": {"run": RUN, "sha256": "0"}, "network": {"width": width},
                   "image": {"height": 1024, "width": 1024}, "settings": {"batch": 1}}  # fmt: skip
        (path / "manifest.json").write_text(json.dumps(content))
        (path / "transformer.mlpackage").mkdir()
        (path / "transformer.mlpackage" / "weights").write_text(str(flops))
        return path

    def recommend(self, *overrides: str) -> tuple[int, str, str]:
        folders = [f"{name}={self.folder / name}" for name in ("runs", "evaluations", "exports")]
        status = main(["recommend", f"run={RUN}", "size=1024x1024", *overrides, *folders])
        out, err = self.capsys.readouterr()
        return status, out, err


@pytest.fixture
def project(tmp_path: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]) -> Project:
    return Project(tmp_path, tiny, capsys)


def test_table_and_next_command_from_bundles_and_evaluations(project: Project) -> None:
    flops = {0.5: 5 * 10**12, 1.0: 16 * 10**12}  # the predictions are 304 ms and 973 ms
    for width, value in ((0.5, 0.7), (1.0, 0.8)):
        project.evaluate(width, value)
        project.export(width, flops[width])
    status, out, _ = project.recommend("budget=400ms")
    assert status == 0, out
    assert "best     width 0.5, 4 sampling steps (euler)" in out
    assert "lightning latency" in out
    assert "b-0.5" in out
    for width in flops:
        assert f"{milliseconds(flops[width]):.1f}" in out
        assert f"{4 * milliseconds(flops[width]):.0f}" in out
    assert "best     width 1," in project.recommend("image=4s")[1]


def test_measurements_are_preferred_and_have_their_own_table(project: Project) -> None:
    for width, value, flops in ((0.5, 0.7, 10**12), (1.0, 0.8, 2 * 10**12)):
        project.evaluate(width, value)
        folder = project.export(width, flops)
    content = content_hash(folder / "transformer.mlpackage")
    record = measurement([500.0], "transformer", content, "iphone16promax", "iOS 18", "CPU_AND_NE", 1, "1024x1024")
    add_record(folder, record)  # at full width, the measurement is above the limit, but the prediction is below it
    status, out, _ = project.recommend("budget=400ms", "format=coreml")
    assert status == 0
    predicted, measured = out.split("measured latency")
    assert "500.0" in measured
    assert "500.0" not in predicted
    assert "best     width 0.5" in out
    # For a format without a bundle, the predicted latency is not below the measured latency of the same network.
    out = project.recommend("budget=400ms")[1]
    assert "best     width 0.5" in out
    assert "assumed to take as long" in out
    assert "lightning sample" in project.recommend("budget=600ms")[1]
    # Newer records are not used if they are for another package or for other compute units.
    add_record(folder, replace(record, sha256="0", milliseconds=5.0))
    add_record(folder, replace(record, units="CPU_ONLY", milliseconds=900.0))
    assert "500.0 (500.0 to 500.0)" in project.recommend("budget=600ms")[1]
    # Measurements on one device are not used for another device.
    assert "measured latency" not in project.recommend("budget=600ms", "device=iphone15pro")[1]
    # A device that is not listed needs measurements for every width, and width 0.5 has none.
    add_record(folder, replace(record, device="My phone"))
    assert project.recommend("budget=600ms", "device=My phone")[2].count("unknown device") == 1


def test_unreadable_bundles_are_skipped(project: Project) -> None:
    project.evaluate(0.5, 0.7)
    folder = project.export(0.5, 5 * 10**12)
    for name, content in (("broken", "{"), ("litert", '{"kind": "litert"}'), (".b.9.tmp", "{")):
        (folder.parent / name).mkdir()
        (folder.parent / name / "manifest.json").write_text(content)
    status, out, err = project.recommend("budget=400ms", "format=coreml")
    assert status == 0
    chosen = next(line for line in out.splitlines() if line.startswith("*"))
    assert "(no bundle)" not in chosen
    assert err.count("skipped") == 2
    assert "LiteRT files, not Core ML packages" in err
    assert ".tmp" not in err


def test_next_command_measures_on_the_requested_device(project: Project) -> None:
    project.evaluate(0.5, 0.7)
    project.export(0.5, 10**12)
    assert "measure=iphone team=TEAM device=iphone15pro" in project.recommend("budget=1s", "device=iphone15pro")[1]
    assert "measure=mac device=mac_m4" in project.recommend("budget=1s", "device=mac_m4")[1]


def test_metric_with_the_most_widths_is_chosen() -> None:
    scores = [score(0.5, 0.7), *(score(w, 0.3, metric="clip-score (x)") for w in (0.375, 0.5, 1.0))]
    quality = quality_from_scores(scores, RUNS, "")
    assert quality is not None
    assert quality.metric == "clip-score (x)"
    assert len(quality.values) == 3


def test_cost_is_predicted_from_the_description_without_a_bundle(project: Project) -> None:
    project.evaluate(0.5, 0.7)
    status, out, _ = project.recommend("budget=1s", "device=iphone15pro")
    assert status == 0
    assert "(no bundle)" in out
    assert "extrapolated: scaled from the iPhone 16 Pro Max" in out
    assert "width 1 was not evaluated; evaluate it with: lightning evaluate" in out
    assert f"lightning export experiments/export/coreml.yaml run={RUN} width=0.5 size=1024x1024" in out


def test_quantized_runs_and_formats_are_candidates(project: Project) -> None:
    quantized = project.quantize(0.5, 4.25)
    assert runs_to_deploy(project.folder / "runs", find(project.folder / "runs", RUN)) == {RUN: 16.0, quantized: 4.25}
    project.evaluate(0.5, 0.7)
    project.evaluate(0.5, 0.69, quantized)
    status, out, _ = project.recommend("budget=10s")
    assert status == 0
    rows = [line.removeprefix("*").split() for line in out.splitlines() if "(no bundle)" in line]
    memory = {(" ".join(row[:2]), row[2], row[3]): float(row[row.index("to") + 3]) for row in rows}
    # The candidates are both widths, with 16 bits and with palettes, in both of Apple's formats.
    assert len(memory) == 8
    assert memory["Core ML", "0.5", "4.25"] < memory["Core ML", "0.5", "16"]
    assert memory["Core AI", "1", "4.3"] < memory["Core AI", "1", "16"]
    assert "4.25 bits" not in out
    assert "16 bits, Core ML" in out
    assert out.count("equal, but Core ML is preferred") == 1
    assert out.count("worse geneval (rules)") == 2
    assert f"lightning run experiments/quantize_finetune.yaml 'backbone.widths=[1]' parents.start={RUN}" in out
    # With a memory limit between the two sizes, only the candidates with palettes fit.
    limit = (memory["Core ML", "0.5", "4.25"] + memory["Core ML", "0.5", "16"]) / 2
    status, out, _ = project.recommend(f"memory={limit:.3f}MB")
    assert status == 0
    assert "4.25 bits, Core ML" in out
    assert f"export experiments/export/coreml.yaml run={quantized} width=0.5" in out


def test_formats_depend_on_the_device(project: Project) -> None:
    project.evaluate(0.5, 0.7)
    status, out, _ = project.recommend("budget=10s", "device=snapdragon8gen3")
    assert status == 0
    assert "Core" not in out.replace("Core ML U-Net", "")
    assert "LiteRT" in out
    assert "scaled from the iPhone 14 Pro" in out
    assert "export experiments/export/litert.yaml" in out
    assert " 4.3 " not in out  # LiteRT does not store palettes
    status, out, _ = project.recommend("budget=10s", "format=coreai")
    assert status == 0
    assert "Core ML  " not in out
    project.export(0.5, 10**12, kind="coreai")
    out = project.recommend("budget=10s", "format=coreai")[1]
    assert "lightning verify" in out
    assert f"{milliseconds(10**12):.1f}" in out


def test_validation_losses_replace_missing_evaluations(project: Project) -> None:
    journal = Journal(project.run.path / FILE_NAME)
    journal.log_metrics({"validation/loss/width_0.5": 0.9, "validation/loss/width_1": 0.9}, step=1)
    journal.log_metrics({"validation/loss/width_0.5": 0.2, "validation/loss/width_1": 0.1}, step=5)
    journal.close()
    project.export(0.5, 5 * 10**12)
    project.export(1.0, 16 * 10**12)
    status, out, _ = project.recommend("budget=2s")
    assert status == 0
    assert "validation loss: lower is better; from training step 5" in out
    assert "best     width 1," in out
    assert f"{2 * milliseconds(16 * 10**12):.1f}" in out  # guidance requires two evaluations of the network per step


def test_error_without_a_recorded_quality_names_the_command_to_run(project: Project) -> None:
    status, out, err = project.recommend("budget=400ms")
    assert status == 1
    assert out == ""
    assert f"lightning evaluate experiments/eval/embedded.yaml run={RUN}" in err
    assert err.count("\n") == 1


def test_error_if_nothing_fits(project: Project) -> None:
    project.evaluate(0.5, 0.7)
    project.export(0.5, 5 * 10**12)
    status, out, err = project.recommend("budget=1ms")
    assert status == 1
    assert "geneval" in out
    assert "no candidate fits: the fastest candidate with a recorded quality (width 0.5, 4 sampling steps)" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "budget=400ms"),
        (["budget=400"], "400ms"),
        (["budget=400mb"], "400ms"),
        (["budget=-3ms"], "positive"),
        (["budget=0", "image=2s"], "positive"),
        (["memory=1.5"], "1.5GB"),
        (["images=2s"], "did you mean 'image'?"),
        (["budget=400ms", "device=iphone16promx"], "iphone16promax"),
        (["budget=400ms", "metric=genevl"], "geneval"),
        (["budget=400ms", "format=coreaI"], "did you mean 'coreai'?"),
        (["budget=400ms", "format=litert"], "not supported by device=iphone16promax; valid: coreml, coreai"),
        (["budget=400ms", "size=1000x1024"], "multiples of"),
        (["budget=400ms", "size=big"], "HEIGHTxWIDTH"),
        (["budgt=400ms"], "budget"),
    ],
)
def test_invalid_overrides_are_one_line_errors(project: Project, overrides: list[str], expected: str) -> None:
    project.evaluate(0.5, 0.7)
    status, _, err = project.recommend(*overrides)
    assert status == 2
    assert expected in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
