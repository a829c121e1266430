"""Tests for the pretrained text encoders, using tiny checkpoints with random weights."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from pocketdit.encoders.contract import TextEncoder
from pocketdit.encoders.pretrained_text import ClipTextEncoder, Gemma3TextEncoder
from pocketdit.errors import UserError

WORDS = ["<pad>", "<eos>", "<bos>", "<unk>", "a", "red", "blue", "circle", "square"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MARKS = ["<|startoftext|>", "<|endoftext|>"]
CLIP_VOCABULARY = {
    token: i for i, token in enumerate([*LETTERS, *(f"{x}</w>" for x in LETTERS), "re", "red</w>", *MARKS])
}
TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 64,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
GEMMA_TEXT: dict[str, Any] = {
    **TEXT,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "sliding_window": 4,
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


def save_clip(folder: Path) -> Path:
    """Save a tiny CLIP checkpoint that, like TinyCLIP, has tokenizer.json but no tokenizer_config.json."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    text = {**TEXT, "max_position_embeddings": 10}
    CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)).save_pretrained(folder)
    merges: Any = [("r", "e"), ("re", "d</w>")]
    CLIPTokenizer(vocab=CLIP_VOCABULARY, merges=merges).save_pretrained(folder)
    (folder / "tokenizer_config.json").unlink()
    return folder


def save_gemma_tokenizer(folder: Path) -> None:
    """Save a word-level tokenizer that pads on the left, as Gemma's does."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="left",
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gemma(tmp_path_factory.mktemp("gemma"))


def save_gemma(folder: Path) -> Path:
    """Save a tiny checkpoint of Gemma3ForConditionalGeneration, the class of google/gemma-3-4b-it."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    torch.manual_seed(0)
    config = Gemma3Config(text_config=GEMMA_TEXT, vision_config=VISION, mm_tokens_per_image=4)
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    save_gemma_tokenizer(folder)
    return folder


def test_clip_returns_the_last_hidden_state_of_its_text_model(clip: Path) -> None:
    from transformers import CLIPModel

    ids = [CLIP_VOCABULARY[token] for token in ("<|startoftext|>", "a</w>", "red</w>", "<|endoftext|>")]
    with torch.no_grad():
        reference = CLIPModel.from_pretrained(clip).eval().text_model(torch.tensor([ids])).last_hidden_state[0]
    encoder: TextEncoder = ClipTextEncoder(str(clip), max_tokens=8)
    tokens = encoder.encode(["A red", "", "a red circle"])
    assert encoder.width == 16
    assert tokens.embeddings.shape == (3, 8, 16)
    assert tokens.mask.sum(1).tolist() == [4, 0, 8]
    torch.testing.assert_close(tokens.embeddings[0, :4], reference)
    assert not tokens.embeddings[~tokens.mask].any()


def test_gemma_returns_the_last_hidden_state_of_its_language_model(gemma: Path) -> None:
    from transformers import Gemma3ForConditionalGeneration

    ids = torch.tensor([[WORDS.index(word) for word in ("<bos>", "a", "red", "circle")]])
    model = Gemma3ForConditionalGeneration.from_pretrained(gemma).eval()
    with torch.no_grad():
        reference = model.model.language_model(ids).last_hidden_state[0]
    encoder: TextEncoder = Gemma3TextEncoder(str(gemma), max_tokens=7, dtype="float32")
    tokens = encoder.encode(["a red circle", "  ", "a red circle a blue square a red square"])
    assert encoder.width == 16
    assert tokens.embeddings.shape == (3, 7, 16)
    # The encoder pads on the right.
    assert tokens.mask[0].tolist() == [True] * 4 + [False] * 3
    assert tokens.mask.sum(1).tolist() == [4, 0, 7]
    torch.testing.assert_close(tokens.embeddings[0, :4], reference, atol=1e-5, rtol=0)
    assert not tokens.embeddings[~tokens.mask].any()


def test_gemma_discards_the_vision_tower(gemma: Path) -> None:
    from transformers import Gemma3TextModel

    encoder = Gemma3TextEncoder(str(gemma), max_tokens=4)
    assert isinstance(encoder.model, Gemma3TextModel)
    assert {weight.dtype for weight in encoder.parameters()} == {torch.bfloat16}
    assert encoder.encode(["a red circle"]).embeddings.dtype == torch.float32


def test_gemma_loads_without_a_vision_tower(tmp_path: Path) -> None:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    model = Gemma3ForCausalLM(Gemma3TextConfig(**GEMMA_TEXT)).eval()
    model.save_pretrained(tmp_path)
    save_gemma_tokenizer(tmp_path)
    tokens = Gemma3TextEncoder(str(tmp_path), max_tokens=2, dtype="float32").encode(["blue"])
    with torch.no_grad():
        reference = model.model(torch.tensor([[2, WORDS.index("blue")]])).last_hidden_state
    torch.testing.assert_close(tokens.embeddings, reference, atol=1e-5, rtol=0)


def test_encoders_are_frozen_and_tokens_do_not_depend_on_the_batch(clip: Path, gemma: Path) -> None:
    for encoder in (ClipTextEncoder(str(clip), 8), Gemma3TextEncoder(str(gemma), 8, dtype="float32")):
        encoder.train()
        assert not any(weight.requires_grad for weight in encoder.parameters())
        assert not any(part.training for part in encoder.modules())
        alone, in_batch = encoder.encode(["a red"]), encoder.encode(["blue square circle", "a red"])
        torch.testing.assert_close(alone.embeddings[0], in_batch.embeddings[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("max_tokens", [77, 1, 0])
def test_token_limits_that_no_caption_fits_are_rejected(clip: Path, max_tokens: int) -> None:
    with pytest.raises(UserError, match=rf"max_tokens: must be from 2 to 10 for .*, not {max_tokens}$"):
        ClipTextEncoder(str(clip), max_tokens)


def test_truncated_captions_keep_the_start_and_end_tokens(clip: Path) -> None:
    assert ClipTextEncoder(str(clip), 2).encode(["a red circle"]).mask.tolist() == [[True, True]]


def test_other_models_are_rejected(clip: Path, gemma: Path) -> None:
    with pytest.raises(UserError, match="contains a model of type gemma3, not a CLIP text encoder"):
        ClipTextEncoder(str(gemma), 8)
    with pytest.raises(UserError, match="contains a model of type clip, not a Gemma 3 language model"):
        Gemma3TextEncoder(str(clip), 8)


def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; use a folder that contains a CLIP text encoder"):
        ClipTextEncoder(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="cannot load a Gemma 3 language model from this folder"):
        Gemma3TextEncoder(str(tmp_path))


def test_error_without_a_connection_says_what_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="hf download nobody/no-such-model --local-dir FOLDER") as caught:
        Gemma3TextEncoder("nobody/no-such-model")
    assert "\n" not in str(caught.value)


def test_missing_tokenizer_is_reported(clip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip, tmp_path / "clip"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no vocabulary; add the missing tokenizer\.json"):
        ClipTextEncoder(str(folder), 8)


def test_missing_and_corrupted_weights_are_reported(clip: Path, gemma: Path, tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    folder = Path(shutil.copytree(clip, tmp_path / "clip"))
    weights = folder / "model.safetensors"
    weights.unlink()
    with pytest.raises(UserError, match=r"no file named model\.safetensors"):
        ClipTextEncoder(str(folder), 8)
    CLIPVisionModel(CLIPVisionConfig(**{**VISION, "image_size": 42})).save_pretrained(tmp_path / "vision")
    shutil.copy(tmp_path / "vision" / "model.safetensors", weights)
    with pytest.raises(UserError, match=r"cannot load a CLIP text encoder: missing weights: .* and \d+ more$"):
        ClipTextEncoder(str(folder), 8)
    weights.write_bytes((clip / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot load a CLIP text encoder from this folder"):
        ClipTextEncoder(str(folder), 8)


def test_what_clip_reads_agrees_with_its_tokens(clip: Path) -> None:
    encoder = ClipTextEncoder(str(clip), max_tokens=6)
    captions = ["red", "red red red red", "a b c d e f", ""]
    readings = encoder.read(captions)
    assert [reading.tokens for reading in readings] == [1, 4, 6, 0]
    assert [reading.seen for reading in readings] == [1, 4, 4, 0]
    with_start_and_end = encoder.encode(captions).mask.sum(1).tolist()
    assert with_start_and_end == [3, 6, 6, 0]


def test_what_gemma_does_not_know_is_named(gemma: Path) -> None:
    readings = Gemma3TextEncoder(str(gemma), max_tokens=4, dtype="float32").read(["a teal circle", "a red blue square"])
    assert [(reading.tokens, reading.seen, reading.unknown) for reading in readings] == [(3, 3, ("teal",)), (4, 3, ())]
