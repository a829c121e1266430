"""Tests a tiny CLIP in transformers' format, with random weights, against transformers' processor and logits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

from evaluation.judges.transformers_clip import TransformersClip
from pocketdit.errors import UserError
from tests.evaluation.judges.random_models import noise, randomize

TEXTS = ["a cat", "a dog on a mat", ""]


def save_clip(folder: Path, processor: Path | None = None) -> Path:
    """Save a tiny CLIP whose tokenizer splits text into letters, with its processor in the same or another folder."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**shared, "vocab_size": 54, "max_position_embeddings": 24, "bos_token_id": 52, "eos_token_id": 53}
    vision = {**shared, "image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    randomize(model)
    model.save_pretrained(folder)
    tokenizer = CLIPTokenizer(vocab={t: i for i, t in enumerate(vocabulary)}, merges=[], pad_token="<|endoftext|>")
    tokenizer.save_pretrained(processor or folder)
    size = {"shortest_edge": 32}
    CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(processor or folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


def test_scaled_cosines_are_the_logits_of_transformers(clip: Path) -> None:
    judge = TransformersClip(clip)
    images = [noise(0), noise(1)[:, :50]]
    processor = CLIPProcessor(CLIPImageProcessorPil.from_pretrained(clip), CLIPTokenizer.from_pretrained(clip))
    inputs = processor(
        images=[Image.fromarray(image) for image in images], text=TEXTS, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = CLIPModel.from_pretrained(clip).eval()(**inputs).logits_per_image.numpy()
    image_features, text_features = judge.encode_images(images), judge.encode_texts(TEXTS)
    np.testing.assert_allclose(judge.logit_scale * image_features @ text_features.T, expected, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(image_features, axis=1), 1, atol=1e-5)
    assert expected.std() > 0.1
    assert judge.logit_scale == pytest.approx(np.exp(2.6592), rel=1e-5)
    assert judge.encode_images([]).shape == judge.encode_texts([]).shape == (0, 16)


def test_long_texts_are_truncated_and_counted(clip: Path) -> None:
    judge = TransformersClip(clip)
    within, beyond = "a" * 22, "a" * 23
    assert judge.count_truncated([within, beyond, "a cat"]) == 1
    assert judge.encode_texts([beyond]).shape == (1, 16)


def test_the_processor_may_be_in_another_folder(clip: Path, tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "weights-only", tmp_path / "processor")
    judge = TransformersClip(folder, processor=tmp_path / "processor")
    np.testing.assert_allclose(judge.encode_texts(TEXTS), TransformersClip(clip).encode_texts(TEXTS), atol=1e-6)
    assert judge.backend.name == "weights-only"
    with pytest.raises(UserError, match="weights-only: cannot load the processor of a CLIP"):
        TransformersClip(folder)
