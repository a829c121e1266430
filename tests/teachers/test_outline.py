"""Tests the outlines of teachers (networks on the meta device, for cost estimates): their sizes and FLOPs."""

import pytest
import torch
from _pytest.mark import ParameterSet
from torch.utils.flop_counter import FlopCounterMode

from pocketdit.teachers.diffusers_teacher import DiffusersTeacher
from pocketdit.teachers.flux import FluxTeacher
from pocketdit.teachers.flux2_klein import Flux2KleinTeacher
from pocketdit.teachers.krea2 import Krea2Teacher
from pocketdit.teachers.sd3 import StableDiffusion3Teacher
from pocketdit.teachers.z_image import ZImageTeacher

META = torch.device("meta")


def slow(*values: object) -> ParameterSet:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("teacher", "repository", "billions", "text_billions"),
    [
        (Flux2KleinTeacher, "black-forest-labs/FLUX.2-klein-base-4B", 3.88, 4.02),
        slow(ZImageTeacher, "Tongyi-MAI/Z-Image", 6.15, 4.02),
        slow(FluxTeacher, "black-forest-labs/FLUX.1-schnell", 11.9, 4.76),
        slow(Krea2Teacher, "krea/Krea-2-Raw", 12.8, 4.02),
        # The model card says 2.5 B, because it counts the table of positions, which is not trained.
        slow(StableDiffusion3Teacher, "stabilityai/stable-diffusion-3.5-medium", 2.24, 4.76),
    ],
)
def test_size_and_work_of_published_teachers(
    teacher: type[DiffusersTeacher], repository: str, billions: float, text_billions: float
) -> None:
    outline = teacher.outline(META, tokens=64, repository=repository)
    assert outline is not None
    parameters = sum(weight.numel() for weight in outline.network.network.parameters())
    assert parameters / 1e9 == pytest.approx(billions, rel=0.01)
    (text,) = outline.text_encoders
    assert sum(weight.numel() for weight in text.network.parameters()) / 1e9 == pytest.approx(text_billions, rel=0.01)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        outline.network.run(2, 32, 32)
    # Most weights are multiplied with at least the 256 image tokens of both samples.
    assert counter.get_total_flops() > 0.5 * 2 * 2 * 256 * parameters


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
