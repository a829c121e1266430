"""Tests for the splits of scenes, with 600 training and 100 validation scenes."""

from itertools import islice

from datamodules.scenes.split import generate_scenes, split_of

TRAIN, VALIDATION = list(generate_scenes("train", 600, seed=3)), list(generate_scenes("validation", 100, seed=3))


def test_no_caption_occurs_in_both_splits() -> None:
    train, validation = ({sample.captions[0] for sample in samples} for samples in (TRAIN, VALIDATION))
    assert not train & validation
    assert {split_of(text) for text in train} == {"train"}
    assert {split_of(text) for text in validation} == {"validation"}


def test_no_scene_or_id_occurs_in_both_splits() -> None:
    assert not {s.id for s in TRAIN} & {s.id for s in VALIDATION}
    assert not {s.scene for s in TRAIN} & {s.scene for s in VALIDATION}
    assert len({s.id for s in TRAIN}) == len(TRAIN)


def test_scenes_and_splits_never_change() -> None:
    assert list(islice(generate_scenes("train", 10**9, seed=3), 20)) == TRAIN[:20]
    assert next(generate_scenes("train", 1, seed=4)) != TRAIN[0]
    # A different result would move captions between the splits of existing data sets.
    assert split_of("a blue square") == "validation"
    assert split_of("a red circle") == "train"


def test_about_five_percent_of_captions_are_held_out() -> None:
    held_out = [split_of(f"caption {i}") == "validation" for i in range(4000)]
    assert 0.04 < sum(held_out) / len(held_out) < 0.06
