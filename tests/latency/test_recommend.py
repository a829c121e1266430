"""Choices on synthetic results: what fits, what is best, which source comes first, what is said without any."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.report import results as report
from evaluation.contract import Result, Score
from pocketdit.artifacts.run_folder import create
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.export.census import Census, OperationCost
from pocketdit.latency.devices import DISPATCH, SUSTAINED, find_device
from pocketdit.latency.quality import Quality, Way, from_reports, way_of
from pocketdit.latency.recommend import Candidate, Cost, best
from pocketdit.latency.records import add, content_hash, measured
from pocketdit.tracking.journal import FILE_NAME, Journal
from tests.conftest import PRETRAIN

RUN = "elastic_pretrain/r"
NO_LIMIT = (float("inf"),) * 3


def way(width: float, steps: int = 4, guidance: float = 1.0, sampler: str = "euler") -> Way:
    return Way(width, steps, sampler, guidance)


def candidate(width: float, quality: float, ms: float, memory: int = 10, steps: int = 4) -> Candidate:
    return Candidate(way(width, steps), quality, Cost(ms, 0.7 * ms, 1.5 * ms, 100.0, memory, "predicted"))


THREE = [candidate(0.375, 0.6, 200), candidate(0.5, 0.7, 360), candidate(1.0, 0.8, 1100, memory=1000)]


@pytest.mark.parametrize(
    ("limits", "width"),
    [
        (NO_LIMIT, 1.0),
        ((400, float("inf"), float("inf")), 0.5),
        ((float("inf"), 1600, float("inf")), 0.5),  # 4 x 360 + 100 = 1540
        ((float("inf"), 1500, float("inf")), 0.375),
        ((float("inf"), float("inf"), 999), 0.5),
        ((199, float("inf"), float("inf")), None),
    ],
)
def test_the_best_that_fits(limits: tuple[float, float, float], width: float | None) -> None:
    found = best(THREE, True, limits)
    assert (found.way.width if found else None) == width


def test_a_limit_inside_the_interval_leaves_a_doubt() -> None:
    """Of 360 ms with 252 to 540: 400 ms may or may not be kept, 600 ms are kept for sure, 200 ms are not."""
    limits = [(limit, float("inf"), float("inf")) for limit in (200.0, 400.0, 600.0)]
    assert [(THREE[1].fits(limit), THREE[1].doubtful(limit)) for limit in limits] == [
        (False, False), (True, True), (True, False),
    ]  # fmt: skip


def test_losses_are_better_when_lower_and_equals_when_faster() -> None:
    assert best(THREE, False, NO_LIMIT) is THREE[0]
    slow, fast = candidate(0.5, 0.7, 360, steps=28), candidate(0.5, 0.7, 360, steps=4)
    assert best([slow, fast], True, NO_LIMIT) is fast


def test_guidance_and_heun_take_more_evaluations() -> None:
    cost = Cost(100.0, 90.0, 120.0, 50.0, 1, "predicted")
    assert Candidate(way(1, 10), 0, cost).picture == 1050
    assert Candidate(way(1, 10, guidance=4.0), 0, cost).picture == 2050
    assert Candidate(way(1, 10, sampler="heun"), 0, cost).picture == pytest.approx(1950)
    both_at_once = Candidate(way(1, 10, guidance=4.0), 0, replace(cost, batch=2))
    assert both_at_once.step == 100 and both_at_once.picture == 1050


def made(width: float, run: str = RUN, **more: object) -> dict[str, dict]:
    about = {"subject": "run", "run": run, "width": width, "steps": 4, "sampler": "euler", "guidance": 1.0,
             "size": [128, 128]}  # fmt: skip
    return {"geneval": about | more}


def a_report(
    width: float, value: float, samples: int = 2, evaluation: str = "embedded", metric: str = "geneval (rules)",
    **more: object,
) -> report.Report:  # fmt: skip
    scores = {"overall": Score(value, samples, {str(i): value for i in range(samples)})}
    return report.Report(evaluation, "x", (Result(metric, scores, {}, True),), made(width, **more))


def test_reports_of_other_runs_and_of_several_ways_are_left_out() -> None:
    assert way_of(made(0.5), RUN) == way(0.5)
    assert way_of(made(0.5, run="other/r"), RUN) is None
    assert way_of(made(0.5) | {"dpg": made(0.5, steps=8)["geneval"]}, RUN) is None
    assert from_reports([a_report(0.5, 0.7, run="other/r")], RUN, "") is None


def test_only_comparable_scores_stand_side_by_side() -> None:
    reports = [
        a_report(0.5, 0.1),
        a_report(0.5, 0.7),  # newer, replaces the first
        a_report(1.0, 0.8),
        a_report(1.0, 0.9, samples=50),  # another number of pictures
        a_report(0.375, 0.9, evaluation="other"),
        a_report(0.375, 0.9, size=[256, 256]),
        a_report(0.375, 1.0, metric="dpg (rules)"),
    ]
    found = from_reports(reports, RUN, "")
    assert found is not None
    assert found.metric == "geneval (rules)" and found.values == {way(0.5): 0.7, way(1.0): 0.8}
    assert "embedded, 2 pictures of 128x128" in found.source
    by_name = from_reports(reports, RUN, "dpg")
    assert isinstance(by_name, Quality) and by_name.values == {way(0.375): 1.0}


def census(flops: int) -> Census:
    return Census((OperationCost("a", "conv", (1, 8, 1, 4), flops, 100, 100, 10**6, 16.0),), 10**6)


def milliseconds(flops: int) -> float:
    return 1000 * (flops / (SUSTAINED * find_device("iphone16promax").peak) + DISPATCH)


class Project:
    """Runs, evaluations and exports in a folder, and the command on them."""

    def __init__(self, folder: Path, tiny: list[str], capsys: pytest.CaptureFixture) -> None:
        self.folder, self.capsys = folder, capsys
        loaded = load(PRETRAIN, tiny, Experiment)
        self.run = create(folder / "runs", "elastic_pretrain", "r", loaded.to_yaml())

    def evaluate(self, width: float, value: float, **more: object) -> None:
        path = self.folder / "evaluations" / "embedded" / f"{width}-{value}"
        path.mkdir(parents=True)
        report.save(a_report(width, value, **more), path, resamples=10)  # type: ignore[arg-type]

    def export(self, width: float, flops: int) -> Path:
        path = self.folder / "exports" / f"b-{width}"
        path.mkdir(parents=True)
        (path / "census.json").write_text(census(flops).to_json())
        content = {"weights": {"run": RUN, "sha256": "0"}, "network": {"width": width},
                   "image": {"height": 1024, "width": 1024}, "settings": {"batch": 1}}  # fmt: skip
        (path / "manifest.json").write_text(json.dumps(content))
        (path / "transformer.mlpackage").mkdir()
        (path / "transformer.mlpackage" / "weights").write_text(str(flops))
        return path

    def recommend(self, *words: str) -> tuple[int, str, str]:
        places = [f"{name}={self.folder / name}" for name in ("runs", "evaluations", "exports")]
        status = main(["recommend", f"run={RUN}", "size=1024x1024", *words, *places])
        out, err = self.capsys.readouterr()
        return status, out, err


@pytest.fixture
def project(tmp_path: Path, tiny: list[str], capsys: pytest.CaptureFixture) -> Project:
    return Project(tmp_path, tiny, capsys)


def test_bundles_and_evaluations_give_a_table_and_the_next_command(project: Project) -> None:
    flops = {0.5: 5 * 10**12, 1.0: 16 * 10**12}  # 304 and 973 ms
    for width, value in ((0.5, 0.7), (1.0, 0.8)):
        project.evaluate(width, value)
        project.export(width, flops[width])
    status, out, _ = project.recommend("budget=400ms")
    assert status == 0, out
    assert "best     width 0.5, 4 steps of euler" in out
    assert "lightning latency" in out and "b-0.5" in out
    for width in flops:
        assert f"{milliseconds(flops[width]):.1f}" in out and f"{4 * milliseconds(flops[width]):.0f}" in out
    assert "best     width 1," in project.recommend("picture=4s")[1]


def test_measurements_come_first_and_stand_apart(project: Project) -> None:
    for width, value, flops in ((0.5, 0.7, 10**12), (1.0, 0.8, 2 * 10**12)):
        project.evaluate(width, value)
        folder = project.export(width, flops)
    content = content_hash(folder / "transformer.mlpackage")
    record = measured([500.0], "transformer", content, "iphone16promax", "iOS 18", "CPU_AND_NE", 1, "1024x1024")
    add(folder, record)  # of the full width, of which the prediction would fit
    status, out, _ = project.recommend("budget=400ms")
    assert status == 0
    predicted, measurement = out.split("latency measured")
    assert "500.0" in measurement and "500.0" not in predicted and "best     width 0.5" in out
    assert "lightning sample" in project.recommend("budget=600ms")[1]
    # Of another package, or on other units, later.
    add(folder, replace(record, sha256="0", milliseconds=5.0))
    add(folder, replace(record, units="CPU_ONLY", milliseconds=900.0))
    assert "500.0 (500.0 to 500.0)" in project.recommend("budget=600ms")[1]
    # On another device nothing was measured.
    assert "latency measured" not in project.recommend("budget=600ms", "device=iphone15pro")[1]
    # A device that is in no list can still have been measured on.
    add(folder, replace(record, device="My phone"))
    assert project.recommend("budget=600ms", "device=My phone")[2].count("no such device") == 1  # 0.5 was not


def test_other_bundles_that_cannot_be_read_do_not_hinder(project: Project) -> None:
    project.evaluate(0.5, 0.7)
    folder = project.export(0.5, 5 * 10**12)
    for name, content in (("broken", "{"), ("litert", '{"file": "network.tflite"}'), (".b.9.tmp", "{")):
        (folder.parent / name).mkdir()
        (folder.parent / name / "manifest.json").write_text(content)
    status, out, err = project.recommend("budget=400ms")
    assert status == 0 and "(no bundle)" not in out
    assert err.count("left out") == 2 and "network.tflite and no Core ML packages" in err and ".tmp" not in err


def test_what_is_measured_next_is_filed_under_the_device_that_was_asked_for(project: Project) -> None:
    project.evaluate(0.5, 0.7)
    project.export(0.5, 10**12)
    assert "measure=iphone team=TEAM device=iphone15pro" in project.recommend("budget=1s", "device=iphone15pro")[1]
    assert "measure=mac device=mac_m4" in project.recommend("budget=1s", "device=mac_m4")[1]


def test_the_metric_of_most_widths_speaks() -> None:
    reports = [a_report(0.5, 0.7), *(a_report(w, 0.3, metric="clip-score (x)") for w in (0.375, 0.5, 1.0))]
    found = from_reports(reports, RUN, "")
    assert found is not None and found.metric == "clip-score (x)" and len(found.values) == 3


def test_without_bundles_the_description_is_costed(project: Project) -> None:
    project.evaluate(0.5, 0.7)
    status, out, _ = project.recommend("budget=1s", "device=iphone15pro")
    assert status == 0
    assert "(no bundle)" in out and "uncalibrated" in out
    assert "width 1 is not in it: lightning evaluate" in out
    assert f"lightning export experiments/export/coreml.yaml run={RUN} width=0.5 size=1024x1024" in out


def test_validation_losses_serve_where_nothing_was_evaluated(project: Project) -> None:
    journal = Journal(project.run.path / FILE_NAME)
    journal.log_metrics({"validation/loss/width_0.5": 0.9, "validation/loss/width_1": 0.9}, step=1)
    journal.log_metrics({"validation/loss/width_0.5": 0.2, "validation/loss/width_1": 0.1}, step=5)
    journal.close()
    project.export(0.5, 5 * 10**12)
    project.export(1.0, 16 * 10**12)
    status, out, _ = project.recommend("budget=2s")
    # The run's own sampling is guided: two evaluations a step.
    assert status == 0 and "validation loss: lower is better; the run's own at step 5" in out
    assert "best     width 1," in out and f"{2 * milliseconds(16 * 10**12):.1f}" in out


def test_no_quality_says_what_to_run(project: Project) -> None:
    status, out, err = project.recommend("budget=400ms")
    assert status == 1 and out == ""
    assert f"lightning evaluate experiments/eval/embedded.yaml run={RUN}" in err and err.count("\n") == 1


def test_nothing_fits(project: Project) -> None:
    project.evaluate(0.5, 0.7)
    project.export(0.5, 5 * 10**12)
    status, out, err = project.recommend("budget=1ms")
    assert status == 1 and "geneval" in out
    assert "nothing fits: the fastest, width 0.5 in 4 steps" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "budget=400ms"),
        (["budget=400"], "400ms"),
        (["budget=400mb"], "400ms"),
        (["budget=-3ms"], "positive"),
        (["budget=0", "picture=2s"], "positive"),
        (["memory=1.5"], "1.5GB"),
        (["budget=400ms", "device=iphone16promx"], "iphone16promax"),
        (["budget=400ms", "metric=genevl"], "geneval"),
        (["budget=400ms", "size=1000x1024"], "multiples of"),
        (["budget=400ms", "size=big"], "HEIGHTxWIDTH"),
        (["budgt=400ms"], "budget"),
    ],
)
def test_wrong_words_are_one_line_and_status_two(project: Project, words: list[str], named: str) -> None:
    project.evaluate(0.5, 0.7)
    status, _, err = project.recommend(*words)
    assert status == 2 and named in err and err.count("\n") == 1 and "Traceback" not in err, err
