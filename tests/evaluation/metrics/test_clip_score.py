"""Tests CLIP-Score with a small open_clip model against torchmetrics and cosines computed directly."""

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
    """Three prompts with two images each. Prompts and images are in different orders."""
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


class TransformersInterface(nn.Module):
    """Adapts the encoder's network to the interface that torchmetrics expects."""

    def __init__(self, encoder: OpenClip) -> None:
        super().__init__()
        self.config = SimpleNamespace()
        self.encoder = encoder

    def get_image_features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.encoder.model.encode_image(pixels)
        return features

    def get_text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        features: Tensor = self.encoder.model.encode_text(ids)
        return features

    def process(self, images: Any = None, text: Any = None, **options: Any) -> dict[str, Tensor]:
        if text is not None:
            ids = open_clip.get_tokenizer(QUICK)(text)
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        arrays = [image.permute(1, 2, 0).numpy() for image in images]
        return {"pixel_values": torch.stack([self.encoder._transform(Image.fromarray(array)) for array in arrays])}


def test_score_matches_torchmetrics_up_to_its_factor_of_100(encoder: OpenClip, images: ImageSet) -> None:
    from torchmetrics.functional.multimodal import clip_score

    score = ClipScore("shapes", encoder).score(images).scores["overall"]
    theirs = TransformersInterface(encoder)
    tensors, texts = [], []
    for prompt in images.prompts.prompts:
        for path in images.images[prompt.id]:
            tensors.append(torch.from_numpy(open_image(path).copy()).permute(2, 0, 1))
            texts.append(prompt.text)
    with torch.inference_mode():
        expected = clip_score(tensors, texts, model_name_or_path=lambda: (theirs, theirs.process))
        swapped = clip_score(tensors, texts[2:] + texts[:2], model_name_or_path=lambda: (theirs, theirs.process))
    assert max(0.0, 100 * score.value) == pytest.approx(float(expected), abs=1e-3)
    assert float(expected) > 0, "torchmetrics clamps negative scores to 0, which would make the comparison meaningless"
    assert abs(float(swapped) - float(expected)) > 0.01


def test_images_are_matched_by_id(encoder: OpenClip, images: ImageSet) -> None:
    result = ClipScore("shapes", encoder).score(images)
    score = result.scores["overall"]
    for prompt in images.prompts.prompts:
        text = encoder.encode_texts([prompt.text])[0]
        cosines = [encoder.encode_images([open_image(path)])[0] @ text for path in images.images[prompt.id]]
        assert score.by_prompt[prompt.id] == pytest.approx(np.mean(cosines), abs=1e-6)
    assert score.value == pytest.approx(np.mean(list(score.by_prompt.values())))
    assert score.samples == 6
    assert result.higher_is_better


def test_name_and_protocol_state_encoder_prefix_and_prompts(encoder: OpenClip, images: ImageSet) -> None:
    plain, prefixed = (ClipScore("shapes", encoder, prefix).score(images) for prefix in ("", "A photo depicts "))
    assert plain.metric == f"clip-score ({QUICK})"
    protocol = json.loads(json.dumps(prefixed.protocol))
    assert protocol["prefix"] == "A photo depicts "
    assert plain.protocol["prefix"] == ""
    for prefix in ("A photo depicts", "A photo depicts  "):  # YAML drops spaces at the end of unquoted strings
        assert ClipScore("shapes", encoder, prefix).score(images) == prefixed
    assert ClipScore("shapes", encoder, " ").score(images) == plain
    assert protocol["encoder"] == QUICK
    assert protocol["encoder_version"] == encoder.backend.version
    assert protocol["prompts"] == "shapes"
    with_prefix = ImageSet(
        PromptSet("shapes", tuple(Prompt(p.id, f"A photo depicts {p.text}") for p in images.prompts.prompts)),
        images.images,
        {},
    )
    assert ClipScore("shapes", encoder).score(with_prefix).scores == prefixed.scores
    assert prefixed.scores["overall"].value != plain.scores["overall"].value


def test_truncated_prompts_are_counted(encoder: OpenClip, images: ImageSet) -> None:
    """The limit of 77 tokens includes the start and end tokens."""
    texts = ("circle " * 75, "circle " * 76, "a " * 200)
    prompts = tuple(Prompt(prompt.id, text) for prompt, text in zip(images.prompts.prompts, texts, strict=True))
    long = ImageSet(PromptSet("long", prompts), images.images, {})
    result = ClipScore("long", encoder).score(long)
    assert (result.protocol["max_text_tokens"], result.protocol["truncated_prompts"]) == (77, 2)
    assert result.notes == ("2 of 3 prompts are truncated to the 77 tokens that the judge reads.",)
    assert ClipScore("long", encoder, "a photo of ").score(long).protocol["truncated_prompts"] == 3
    short = ClipScore("shapes", encoder).score(images)
    assert (short.protocol["truncated_prompts"], short.notes) == (0, ())


def test_prompt_without_images_is_an_error(encoder: OpenClip, images: ImageSet) -> None:
    incomplete = {name: paths for name, paths in images.images.items() if name != "a"}
    with pytest.raises(UserError, match="prompts without images: 1 of 3"):
        ClipScore("shapes", encoder).score(ImageSet(images.prompts, incomplete, {}))


def test_nonfinite_features_are_an_error(encoder: OpenClip, images: ImageSet) -> None:
    encoder.model.visual.proj.data.fill_(float("nan"))
    with pytest.raises(UserError, match="prompt c: a feature is not finite"):
        ClipScore("shapes", encoder).score(images)
