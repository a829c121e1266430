"""Tests which arguments of its teacher a stage needs."""

import pytest

from pocketdit.config.experiment import Experiment
from pocketdit.config.load import load
from pocketdit.stages.teaching import needed_teacher
from tests.conftest import ROOT

PLAIN_DMD = ["stage.init_args.output_weight=0", "stage.init_args.feature_weight=0"]
LORA = {"lora", "lora_file"}
FEW_STEP = {*LORA, "few_step", "few_step_revision"}


@pytest.mark.parametrize(
    ("file", "overrides", "few_step"),
    [
        ("paper/step_distill_1024", [], LORA),
        ("paper/step_distill_1024", PLAIN_DMD[:1], LORA),
        ("paper/step_distill_1024", PLAIN_DMD, set()),
        ("single_gpu/single_gpu_step_distill", [], {"few_step"}),
        ("single_gpu/single_gpu_step_distill", PLAIN_DMD, set()),
        ("paper/knowledge_distill_1024", ["stage.init_args.teacher.init_args.lora=x"], set()),
        ("single_gpu/single_gpu_knowledge_distill", ["stage.init_args.teacher.init_args.few_step=x"], set()),
    ],
)
def test_arguments_of_an_unused_few_step_teacher_are_left_out(
    file: str, overrides: list[str], few_step: set[str]
) -> None:
    experiment: Experiment = load(ROOT / "experiments" / f"{file}.yaml", overrides, Experiment).config
    configured = experiment.stage.init_args["teacher"].init_args
    needed = needed_teacher(experiment).init_args
    assert {name for name in FEW_STEP if needed.get(name) is not None} == few_step
    assert {**configured, **needed} == configured
    assert configured.keys() - needed.keys() <= FEW_STEP
