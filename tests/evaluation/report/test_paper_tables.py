"""Tests for the paper's tables and the rows with our scores."""

import math
from pathlib import Path

import pytest

from datamodules.scenes.render import render_scene
from datamodules.scenes.split import generate_scenes
from evaluation.contract import ImageSet, Result, Score
from evaluation.metrics.dpg.metric import DPGBench
from evaluation.report.paper_scores import COMPBENCH, DPG, GENEVAL, SUMMARY, TABLES, Table
from evaluation.report.paper_tables import our_rows, render_table, render_tables
from evaluation.report.results import Report, save
from evaluation.scenes.judges.answerer import SceneAnswerer
from evaluation.scenes.prompts.benchmarks import scene_dpg


def result(metric: str, **scores: float) -> Result:
    return Result(metric, {name: Score(value, 4) for name, value in scores.items()}, {})


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_all_rows_fill_all_columns(table: Table) -> None:
    assert all(len(row) == len(table.columns) for row in table.rows.values())
    assert {name for name in table.rows if name.startswith("SnapGen++")} == {
        "SnapGen++ tiny 0.3B", "SnapGen++ small 0.4B", "SnapGen++ full 1.6B",
    }  # fmt: skip


@pytest.mark.parametrize("table", [GENEVAL, COMPBENCH], ids=lambda table: table.title)
def test_overall_is_the_mean_of_the_columns(table: Table) -> None:
    """The printed overall score and the mean agree up to the paper's rounding, so this test reveals typos."""
    for name, (*columns, overall) in table.rows.items():
        assert overall == pytest.approx(sum(columns) / len(columns), abs=0.012), name


def test_summary_matches_the_detailed_tables_except_where_the_paper_differs() -> None:
    for column, table in (("DPG", DPG), ("GenEval", GENEVAL), ("T2I-C.B.", COMPBENCH)):
        position = list(SUMMARY.columns).index(column)
        different = {
            name
            for name, row in SUMMARY.rows.items()
            if name in table.rows and not math.isnan(row[position]) and row[position] != table.rows[name][-1]
        }
        assert different <= {"SD3-Medium 2.0B", "Playground v2.5 2.6B"}, column


def test_our_rows_name_the_judges() -> None:
    published = result("geneval", single_object=0.9, overall=0.7)
    embedded = result("geneval (scene-rules)", single_object=0.8, overall=0.6)
    rows = {row.name: row.values for row in our_rows(GENEVAL, [published, embedded, result("clip-score", overall=0.3)])}
    assert set(rows) == {"geneval", "geneval (scene-rules)"}
    assert rows["geneval"][0] == 0.9
    assert rows["geneval"][-1] == 0.7
    assert math.isnan(rows["geneval"][1])
    assert rows["geneval (scene-rules)"][-1] == 0.6
    assert our_rows(DPG, [published]) == []
    text = render_table(GENEVAL, {f"mine [{name}]": row for name, row in rows.items()})
    assert text.count("measured") == 2
    assert text.count("paper") == len(GENEVAL.rows)


def test_compbench_columns_of_different_judges_form_one_row() -> None:
    columns = [result("t2i-compbench (x)", color=0.5), result("t2i-compbench (x, y)", shape=0.4)]
    (row,) = our_rows(COMPBENCH, columns)
    assert row.name == "t2i-compbench (x, y)"
    assert row.values[:4:3] == (0.5, 0.4)


def test_second_values_of_a_column_begin_a_further_row() -> None:
    """Results from two judges, modes or settings in one evaluation are never mixed, and none is left out."""
    official, corrected = result("dpg (j)", overall=80.0), result("dpg (j, corrected)", overall=84.0)
    first, second = result("geneval (a)", overall=0.5), result("geneval (b)", overall=0.6)
    rows = our_rows(SUMMARY, [official, corrected, first, second])
    assert [row.name for row in rows] == ["dpg (j), geneval (a)", "dpg (j, corrected), geneval (b)"]
    assert [row.values[:2] for row in rows] == [(80.0, 0.5), (84.0, 0.6)]
    detectors = [result("t2i-compbench (x)", spatial=0.2), result("t2i-compbench (y)", spatial=0.4, color=0.1)]
    rows = our_rows(COMPBENCH, detectors)
    assert [(row.name, row.values[4]) for row in rows] == [("t2i-compbench (x)", 0.2), ("t2i-compbench (y)", 0.4)]
    same = [result("geneval (a)", overall=0.5), result("geneval (a)", overall=0.7)]
    assert [row.values[-1] for row in our_rows(GENEVAL, same)] == [0.5, 0.7]


def test_columns_and_their_overall_score_form_one_row() -> None:
    names = ("color", "complex", "non_spatial", "shape", "spatial", "texture")
    columns = [result("t2i-compbench (x)", **{name: 0.1 * i}) for i, name in enumerate(names)]
    overall = result("t2i-compbench (x)", overall=0.25, **{name: 0.1 * i for i, name in enumerate(names)})
    (row,) = our_rows(COMPBENCH, [*columns, overall])
    assert row.values == pytest.approx((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.25))


def test_notes_state_the_images_of_their_own_row(tmp_path: Path) -> None:
    """One metric's name is part of the other's, and two evaluations have folders of the same name."""
    small = Result("geneval", {"overall": Score(0.5, 7)}, {})
    large = Result("geneval (x)", {"overall": Score(0.6, 2212), "colors": Score(0.5, 376)}, {})
    for evaluation, scored in (("a", (small, large)), ("b", (small,))):
        (tmp_path / evaluation / "run").mkdir(parents=True)
        save(Report(evaluation, "run", scored, {}), tmp_path / evaluation / "run", 100)
    notes = [line.partition("] ")[2] for line in render_tables(tmp_path).splitlines() if ", from " in line]
    assert notes == [
        "geneval, 7 images, from a/run",
        "geneval (x), 2212 images, from a/run",
        "geneval, 7 images, from b/run",
        "geneval, 7 images, from a/run",
        "geneval (x), 376 to 2212 images, from a/run",
        "geneval, 7 images, from b/run",
    ]


def test_summary_names_judges_and_accepts_only_clip_scores_on_coco() -> None:
    scenes = Result("clip-score (scene-clip)", {"overall": Score(0.8, 4)}, {"prompts": "scene-geneval"})
    coco = Result("clip-score", {"overall": Score(0.3, 4)}, {"prompts": "coco-2014"})
    (row,) = our_rows(SUMMARY, [result("geneval (scene-rules)", overall=0.6), scenes])
    assert row.name == "geneval (scene-rules)"
    assert row.values[1] == 0.6
    assert math.isnan(row.values[3])
    (row,) = our_rows(SUMMARY, [coco])
    assert (row.name, row.values[3]) == ("clip-score", 0.3)


def test_dpg_columns_are_categories_of_the_metric(tmp_path: Path) -> None:
    """The scores are computed by the metric on rendered scenes."""
    prompts, paths = scene_dpg(6, seed=3), {}
    for prompt, sample in zip(prompts.prompts, generate_scenes("validation", 6, seed=3), strict=True):
        paths[prompt.id] = (tmp_path / f"{prompt.id}.png",)
        render_scene(sample.scene).save(paths[prompt.id][0])
    scored = DPGBench("x", SceneAnswerer(), "corrected").score(ImageSet(prompts, paths, {}))
    (row,) = our_rows(DPG, [scored])
    assert not any(math.isnan(value) for value in row.values)
