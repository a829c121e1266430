"""Tests that an invalid study is reported in one line before its first trial."""

from pathlib import Path
from typing import Any

import pytest

from pocketdit.commands.main import main
from pocketdit.config.load import load
from pocketdit.errors import ConfigError
from sweeps.checks import check, load_sweep, require_same_study
from sweeps.settings import Sweep
from tests.conftest import PRETRAIN, ROOT
from tests.sweeps.study import loaded, settings, write

LR = {"kind": "float", "low": 1e-4, "high": 1e-2}
SPARSE = {"kind": "assa", "kv_heads": 2, "blocks": "$blocks"}
COST = {"class_path": "sweeps.costs.Parameters"}
SCORE = {"class_path": "sweeps.scores.Score", "init_args": {
    "prompts": {"class_path": "evaluation.prompts.scenes.HeldOutCaptions", "init_args": {"count": 4}},
    "metric": {"class_path": "evaluation.metrics.scene_accuracy.SceneAccuracy", "init_args": {"prompts": "x"}},
}}  # fmt: skip
LOGGED = {"kind": "logged", "metric": "validation/loss/width_1"}


def attention_options(**sparse: Any) -> dict[str, Any]:
    return {"where": {"kind": "options", "options": {
        "full": {"backbone.levels.0.attention": {"kind": "full", "kv_heads": 2}},
        "sparse": {"backbone.levels.0.attention": SPARSE | sparse},
    }}}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"optimiser.init_args.lr": LR}}, "optimiser.*unknown key; did you mean 'optimizer'"),
        ({"space": {"optimizer.init_args.adam_lr": LR}}, "unknown key of MuonAdamW; did you mean 'adamw_lr'"),
        ({"space": {"backbone.levels.7.depth": {"kind": "int", "low": 1, "high": 2}}}, "a list of 3 items"),
        ({"space": {"lr": LR | {"keys": ["optimizer.init_args.adam_lr"]}}}, "space.lr: .*did you mean 'adamw_lr'"),
        ({"space": {"lr": LR | {"high": 1e-4}}}, "s.yaml:.* space.lr: low must be less than high, but low is 0.0001"),
        ({"space": {"lr": LR | {"low": 0.0, "log": True}}}, "low must be positive if log is true"),
        ({"space": {"lr": LR | {"kind": "flaot"}}}, "did you mean 'float'"),
        ({"space": {"training.accumulate": {"kind": "float", "low": 0.5, "high": 2.5}}}, "expected int, got 0.5"),
        ({"space": {"training.accumulate": {"kind": "values", "values": [1, "two"]}}}, "expected int, got 'two'"),
        ({"space": {"training.accumulate": {"kind": "values", "values": [1]}}}, "at least two alternatives"),
        ({"space": {"backbone.width": {"kind": "values", "values": [7, 9]}}},
         "does not accept any value of this dimension"),
        ({"space": attention_options()}, r"space.where: \$blocks is not a dimension"),
        ({"space": attention_options(block=2) | {"blocks": {"kind": "values", "values": [1, 2]}}},
         "did you mean 'blocks'"),
        ({"space": attention_options() | {"blocks": {"kind": "values", "values": [1, "x"]}}}, "blocks: .*int, got 'x'"),
        ({"objectives": {"loss": LOGGED | {"metric": "validation/los/width_1"}}},
         "objectives.loss.metric: ElasticPretrain does not log .*did you mean 'validation/loss/width_1'"),
        ({"objectives": {"loss": LOGGED | {"metric": "validation/loss/width_0.25"}}}, "does not log"),
        ({"objectives": {"loss": LOGGED | {"metric": "accuracy"}}}, "it logs validation/loss/width_0.375"),
        ({"objectives": {}}, "objectives must not be empty"),
        ({"objectives": {"p": {"kind": "computed", "of": {"class_path": "sweeps.costs.Parameter"}}}}, "did you mean"),
        ({"objectives": {"p": {"kind": "computed", "of": COST | {"init_args": {"wdth": 1}}}}}, "did you mean 'width'"),
        ({"objectives": {"p": {"kind": "computed", "of": {"class_path": "torch.optim.Adam"}}}},
         "objectives.p.of.class_path: Adam is not a cost .*: it has no '__call__'"),
        ({"objectives": {"p": {"kind": "scored", "of": COST}}},
         "objectives.p.of: sweeps.costs.Parameters takes Experiment, not RunFolder"),
        ({"objectives": {"p": {"kind": "computed", "of": SCORE}}},
         "objectives.p.of: sweeps.scores.Score takes RunFolder, not Experiment"),
        ({"train": {"class_path": "pocketdit.artifacts.run_folder.RunFolder", "init_args": {"path": "x"}}},
         "train.class_path: RunFolder is not a trainer of trials .*: it has no '__call__'"),
        ({"constraints": {"size": {"of": SCORE, "at_most": 1.0}}}, "constraints.size.of: .* takes RunFolder"),
        ({"constraints": {"size": {"of": COST}}}, "set at_least, at_most, or both"),
        ({"require": ["lr < radius"]}, "radius is not a dimension of the search space"),
        ({"require": ["open('x')"]}, "Call is not allowed"),
        ({"require": ["1 <"]}, "is not a comparison"),
        ({"baselines": [{"rate": 1e-3}]}, "baselines.0.rate: not a dimension of the search space"),
        ({"baselines": [{"lr": 1.0}]}, r"baselines.0.lr: 1.0 is not in space.lr"),
        ({"baselines": [{}]}, "baselines.0: lr is missing"),
        ({"baselines": [{"lr": 1e-3}], "require": ["lr > 0.002"]}, "baselines.0: does not satisfy require: lr > 0.002"),
        ({"baselines": [{"lr": 1e-3}] * 7}, "baselines must not outnumber trials"),
        ({"budget": {"trials": 3, "steps": [15]}}, "15 is not a multiple of training.validate_every"),
        ({"budget": {"trials": 3, "steps": [10, 20]}}, "promote must have one count for each"),
        ({"budget": {"trials": 3, "steps": [10, 20], "promote": [4]}}, "must not increase in this order"),
        ({"budget": {"trials": 3, "steps": [10], "finalists": 2}}, "finalists and seeds must be set together"),
        ({"budget": {"trials": 3, "steps": [10], "sede": 1}}, "unknown key; did you mean 'seeds'"),
        ({"set": {"training.validate_evry": 10}}, "set.training.validate_evry: .*did you mean 'validate_every'"),
        ({"pruner": {"kind": "asha", "least_steps": 1}}, "must be at least training.validate_every"),
        ({"sampler": {"kind": "nsga"}}, "did you mean 'nsga2'"),
        ({"base": str(PRETRAIN.with_name("elastic_pretrian.yaml"))}, "did you mean '.*/elastic_pretrain.yaml'"),
    ],
)  # fmt: skip
def test_invalid_study_is_reported_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    if "space" not in changes:
        changes = {"space": {"lr": LR | {"keys": ["optimizer.init_args.lr"]}}, **changes}
    with pytest.raises(ConfigError, match=message) as caught:
        check(loaded(tmp_path, **changes))
    assert "\n" not in str(caught.value)
    assert "s.yaml" in str(caught.value) or "base" in changes


def test_several_rungs_require_a_constant_learning_rate(tmp_path: Path) -> None:
    budget = {"trials": 3, "steps": [10, 20], "promote": [1]}
    with pytest.raises(ConfigError, match=r"put training\.decay: constant under set"):
        check(loaded(tmp_path, budget=budget, set={"training.validate_every": 10}))


def test_started_study_cannot_be_resumed_with_another_space(tmp_path: Path) -> None:
    study = loaded(tmp_path)
    started = tmp_path / "started.yaml"
    started.write_text(study.to_yaml())
    require_same_study(started, loaded(tmp_path, "budget.trials=60", "workers=2").config)
    space = {"optimizer.init_args.lr": {"kind": "float", "low": 1e-4, "high": 2, "log": True}}
    changed = loaded(tmp_path, space=space).config
    with pytest.raises(ConfigError, match=r"space\.optimizer\.init_args\.lr\.high: s was started with 0\.1, not 2"):
        require_same_study(started, changed)


def test_command_reports_an_unknown_key_with_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = {"class_path": "sweeps.engine.training.Train"}
    write(tmp_path, space={"optimizer.init_args.adam_lr": LR}, train=train)
    assert main(["sweep", str(tmp_path / "s.yaml")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "did you mean 'adamw_lr'" in error
    assert not (tmp_path / "runs").exists()


def test_a_password_in_the_settings_of_the_trials_is_stored_as_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_TOKEN", "hunter2-Zyx")
    uri = "http://me:${oc.env:TRACKER_TOKEN}@127.0.0.1:9"
    path = write(tmp_path, set={"tracking": {"uri": uri}, "training.validate_every": 10, "training.decay": "constant"})
    study = load_sweep(path, [])
    base = check(study)
    assert base.config.tracking.uri == "http://me:hunter2-Zyx@127.0.0.1:9"
    assert base.resolved["tracking"]["uri"] == uri
    assert "hunter2" not in base.to_yaml() + study.to_yaml() + str(study.config)


def test_documented_study_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "sweeps.md").read_text().split("```yaml\nsweep:")[1].split("```")[0]
    (tmp_path / "s.yaml").write_text(f"sweep:{text}")
    monkeypatch.chdir(ROOT)
    check(load(tmp_path / "s.yaml", [], Sweep))


STUDIES = sorted((ROOT / "sweeps").rglob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_study_is_valid_and_describes_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = load(path, [], Sweep)
    check(study)
    name = path.relative_to(ROOT)
    text = path.read_text()
    assert f"lightning sweep {name}" in text
    assert "Cost:" in text
    assert "Expected:" in text
    assert study.config.sweep == path.stem if path.parent.name == "sweeps" else True


def test_sleeping_study_is_valid(tmp_path: Path) -> None:
    check(loaded(tmp_path))
    assert settings(tmp_path)["budget"]["trials"] == 6
