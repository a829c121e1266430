"""Tests the outlines of teachers (networks on the meta device, for cost estimates): their sizes and FLOPs."""

from pathlib import Path

import pytest
import torch
from _pytest.mark import ParameterSet
from torch.utils.flop_counter import FlopCounterMode

from pocketdit.config.experiment import Experiment
from pocketdit.config.importing import import_class
from pocketdit.config.load import load
from pocketdit.teachers.clip_text import ClipPooledText, ClipTextAndPooled
from pocketdit.teachers.diffusers_teacher import DiffusersTeacher
from pocketdit.teachers.flux import FluxTeacher
from pocketdit.teachers.flux2_klein import Flux2KleinTeacher
from pocketdit.teachers.krea2 import Krea2Teacher
from pocketdit.teachers.sd3 import StableDiffusion3Teacher
from pocketdit.teachers.z_image import ZImageTeacher
from pocketdit.training.cost import StageCost, count_parameters
from tests.conftest import ROOT
from tests.teachers.tiny_pipelines import flux

META = torch.device("meta")


def slow(*values: object) -> ParameterSet:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("teacher", "repository", "billions", "text_billions"),
    [
        (Flux2KleinTeacher, "black-forest-labs/FLUX.2-klein-base-4B", 3.88, 4.02),
        slow(ZImageTeacher, "Tongyi-MAI/Z-Image", 6.15, 4.02),
        slow(FluxTeacher, "black-forest-labs/FLUX.1-schnell", 11.9, 4.76 + 0.12),
        slow(Krea2Teacher, "krea/Krea-2-Raw", 12.8, 4.02),
        # The model card says 2.5 B, because it counts the table of positions, which is not trained.
        slow(StableDiffusion3Teacher, "stabilityai/stable-diffusion-3.5-medium", 2.24, 4.76 + 0.12 + 0.69),
    ],
)
def test_size_and_work_of_published_teachers(
    teacher: type[DiffusersTeacher], repository: str, billions: float, text_billions: float
) -> None:
    outline = teacher.outline(META, tokens=64, repository=repository)
    assert outline is not None
    parameters = count_parameters(outline.network.network)
    assert parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert len(outline.text_encoders) == len(teacher.text_components(repository))
    text_parameters = sum(count_parameters(text.network) for text in outline.text_encoders)
    assert text_parameters / 1e9 == pytest.approx(text_billions, rel=0.01)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        outline.network.run(2, 32, 32)
    # Most weights are applied to at least the 256 image tokens of each of the two samples.
    assert counter.get_total_flops() > 0.5 * 2 * 2 * 256 * parameters


@pytest.mark.parametrize(
    ("encoder", "repository", "folder", "parameters"),
    [
        (ClipPooledText, "black-forest-labs/FLUX.1-schnell", "text_encoder", 123_060_480),
        (ClipTextAndPooled, "stabilityai/stable-diffusion-3.5-medium", "text_encoder", 123_650_304),
        (ClipTextAndPooled, "stabilityai/stable-diffusion-3.5-medium", "text_encoder_2", 694_659_840),
    ],
)
def test_size_and_work_of_published_clip_models(
    encoder: type[ClipPooledText | ClipTextAndPooled], repository: str, folder: str, parameters: int
) -> None:
    outline = encoder.outline(META, 64, repository, folder, dtype="bfloat16")
    assert outline is not None
    assert count_parameters(outline.network) == parameters
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        outline.run(2)
    blocks = sum(weight.numel() for name, weight in outline.network.named_parameters() if ".layers." in name)
    # CLIP always reads 77 tokens. The scores of attention add a few percent.
    assert counter.get_total_flops() == pytest.approx(2 * 2 * 77 * blocks, rel=0.05)


def estimate(stage: str, teacher: str, *settings: str) -> StageCost:
    """Return the cost of a distillation stage whose teacher is FLUX.1 with the given arguments."""
    flux_teacher = f"teacher={{class_path: pocketdit.teachers.flux.FluxTeacher, init_args: {{{teacher}}}}}"
    overrides = [f"stage.init_args.{setting}" for setting in (flux_teacher, *settings)]
    experiment = load(ROOT / "experiments" / f"{stage}.yaml", overrides, Experiment).config
    cost: StageCost = import_class(experiment.stage.class_path).cost(experiment)
    return cost


@pytest.mark.parametrize(("takes_guidance", "guided_passes"), [(False, 2), (True, 1)])
def test_guidance_costs_a_second_pass_unless_it_is_an_input(
    takes_guidance: bool, guided_passes: int, tmp_path: Path
) -> None:
    flux(takes_guidance).transformer.save_pretrained(tmp_path / "transformer")

    def teacher_passes(stage: str, *settings: str) -> float:
        cost = estimate(stage, f"repository: {tmp_path}", *settings)
        (per_batch,) = (item.per_batch for item in cost.passes(META) if item.label == "teacher")
        return per_batch

    assert teacher_passes("knowledge_distill", "teacher_guidance=1") == 1
    assert teacher_passes("knowledge_distill", "teacher_guidance=3") == guided_passes
    # The few-step teacher is used without guidance.
    assert teacher_passes("step_distill", "guidance=4", "student_every=1") == guided_passes + 1
    assert teacher_passes("step_distill", "guidance=1", "student_every=1") == 2


def test_the_few_step_transformer_is_counted_only_where_it_is_used(tmp_path: Path) -> None:
    flux().transformer.save_pretrained(tmp_path / "transformer")
    one, two = f"repository: {tmp_path}", f"repository: {tmp_path}, few_step: other"
    size = estimate("step_distill", one).memory["teacher"]
    assert size > 0
    assert estimate("step_distill", two).memory["teacher"] == 2 * size
    assert estimate("step_distill", two, "output_weight=0").memory["teacher"] == 2 * size
    assert estimate("step_distill", two, "output_weight=0", "feature_weight=0").memory["teacher"] == size
    assert estimate("knowledge_distill", two).memory["teacher"] == size


def test_few_step_weights_and_float8_are_counted() -> None:
    repository = "black-forest-labs/FLUX.2-klein-base-4B"
    one, two, rounded = (
        Flux2KleinTeacher.outline(META, 64, repository, **options)
        for options in ({}, {"few_step": "black-forest-labs/FLUX.2-klein-4B"}, {"few_step": repository, "float8": True})
    )
    assert one is not None
    assert two is not None
    assert rounded is not None
    assert one.weight_bytes == 2 * sum(weight.numel() for weight in one.network.network.parameters())
    assert two.weight_bytes == 2 * one.weight_bytes
    assert 0.5 * one.weight_bytes <= rounded.weight_bytes < 0.6 * one.weight_bytes


def test_unknown_repository_has_no_outline() -> None:
    assert ZImageTeacher.outline(META, tokens=64, repository="nobody/no-such-model") is None
