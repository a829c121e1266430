"""CLIP-Score through a small CLIP of open_clip's, against torchmetrics and against cosines taken by hand."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from evaluation.contract import ImageSet, Prompt, PromptSet, open_image
from evaluation.judges.open_clip_encoder import OpenClip
from evaluation.metrics.clip_score import ClipScore
from pocketdit.errors import UserError
from tests.evaluation.judges.test_open_clip_encoder import QUICK, architectures, weights  # noqa: F401  (fixtures)


@pytest.fixture
def encoder(weights: Path) -> OpenClip:  # noqa: F811
    return OpenClip(QUICK, weights)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Three prompts of two pictures; the files are named in another order than the prompts."""
    random = np.random.default_rng(0)
    prompts = tuple(
        Prompt(name, text) for name, text in (("c", "a red circle"), ("a", "a blue star"), ("b", "squares"))
    )
    files: dict[str, tuple[Path, ...]] = {}
    for name in "abc":
        files[name] = tuple(tmp_path / f"{name}{i}.png" for i in range(2))
        for path in files[name]:
            Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    return ImageSet(PromptSet("shapes", prompts, images_each=2), files, {})


class AsTransformers(nn.Module):
    """The same network under the names by which torchmetrics asks for features."""

    def __init__(self, encoder: OpenClip) -> None:
        super().__init__()
        self.config = SimpleNamespace()
        self.encoder = encoder

    def get_image_features(self, pixels: Tensor) -> Tensor:
        return self.encoder.model.encode_image(pixels)

    def get_text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.encoder.model.encode_text(ids)

    def process(self, images: Any = None, text: Any = None, **options: Any) -> dict[str, Tensor]:
        if text is not None:
            ids = open_clip.get_tokenizer(QUICK)(text)
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        return {"pixel_values": torch.stack([self.encoder._transform(picture) for picture in pictures])}


def test_torchmetrics_gives_a_hundred_times_the_same(encoder: OpenClip, images: ImageSet) -> None:
    from torchmetrics.functional.multimodal import clip_score

    found = ClipScore("shapes", encoder).score(images).scores["overall"]
    theirs = AsTransformers(encoder)
    tensors, texts = [], []
    for prompt in images.prompts.prompts:
        for path in images.images[prompt.id]:
            tensors.append(torch.from_numpy(open_image(path).copy()).permute(2, 0, 1))
            texts.append(prompt.text)
    with torch.inference_mode():
        expected = clip_score(tensors, texts, model_name_or_path=lambda: (theirs, theirs.process))
        swapped = clip_score(tensors, texts[2:] + texts[:2], model_name_or_path=lambda: (theirs, theirs.process))
    assert max(0.0, 100 * found.value) == pytest.approx(float(expected), abs=1e-3)
    assert float(expected) > 0, "torchmetrics cuts off at 0, so a negative mean would compare nothing"
    assert abs(float(swapped) - float(expected)) > 0.01


def test_prompts_meet_pictures_by_id(encoder: OpenClip, images: ImageSet) -> None:
    found = ClipScore("shapes", encoder).score(images)
    score = found.scores["overall"]
    for prompt in images.prompts.prompts:
        text = encoder.encode_texts([prompt.text])[0]
        cosines = [encoder.encode_images([open_image(path)])[0] @ text for path in images.images[prompt.id]]
        assert score.by_prompt[prompt.id] == pytest.approx(np.mean(cosines), abs=1e-6)
    assert score.value == pytest.approx(np.mean(list(score.by_prompt.values())))
    assert score.samples == 6
    assert found.higher_is_better


def test_name_and_protocol_say_what_papers_leave_out(encoder: OpenClip, images: ImageSet) -> None:
    plain, prefixed = (ClipScore("shapes", encoder, prefix).score(images) for prefix in ("", "A photo depicts "))
    assert plain.metric == f"clip-score ({QUICK})"
    protocol = json.loads(json.dumps(prefixed.protocol))
    assert protocol["prefix"] == "A photo depicts " and plain.protocol["prefix"] == ""
    assert protocol["encoder"] == QUICK and protocol["encoder_version"] == encoder.backend.version
    assert protocol["prompts"] == "shapes"
    worded = ImageSet(
        PromptSet("shapes", tuple(Prompt(p.id, f"A photo depicts {p.text}") for p in images.prompts.prompts)),
        images.images,
        {},
    )
    assert ClipScore("shapes", encoder).score(worded).scores == prefixed.scores
    assert prefixed.scores["overall"].value != plain.scores["overall"].value


def test_a_prompt_without_pictures_is_an_error(encoder: OpenClip, images: ImageSet) -> None:
    some = {name: paths for name, paths in images.images.items() if name != "a"}
    with pytest.raises(UserError, match="1 of 3 prompts have no pictures"):
        ClipScore("shapes", encoder).score(ImageSet(images.prompts, some, {}))


def test_features_that_are_not_finite_are_an_error(encoder: OpenClip, images: ImageSet) -> None:
    encoder.model.visual.proj.data.fill_(float("nan"))
    with pytest.raises(UserError, match="prompt c: a feature is not finite"):
        ClipScore("shapes", encoder).score(images)
