"""Tests that the tokenizers of the Swift package have the same tokens as the Python reference."""

import random
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from pocketdit.encoders.portable import PortableText
from pocketdit.encoders.word_tokens import split_words
from pocketdit.encoders.word_vectors import WordVectorEncoder
from pocketdit.export.app import tokenizers
from tests.export.app.swift_jobs import Manifest, add_encoder, clip_tokenizer, swift, write

PARTS = [
    *("a red Circle", "ΟΔΟΣ", "Σ", "ς", "ΑΣ'Α", "ΑΣ.", "Σ\u0345", "\u02b0Σ", "İ", "ı", "ß", "ẞ", "ŉ", "ǅ", "ǆ", "ﬁ"),
    *("A red circle, left of 2 blue SQUARES", "straße", "naïve", "猫\u0301", "x_y", "ΆΝΕΜΟΣ", "άνεμος", "\u1f71νεμος"),
    *("\u212a", "\u212b", "\u2126", "\u1f71", "\u03ac", "\u03b1\u0301", "e\u0301", "é", "\u0301", "\u0308", "\u0344"),
    *("\u1100\u1161\u11a8", "각", "\uf900", "豈", "猫", "一", "Ａ", "𝐀", "𐐀", "Ꭰ", "ꭰ", "Ა", "Ⅷ", "Ⓐ", "½", "²", "٣"),
    *("๓", "12", "_", "'s", "'S", "'re", "'LL", "''", "don't", "’s", "\u00ad", "\u200d", "\ufe0f", "❤️", "👩‍🎨"),
    *("<|", "|>", "!<|endoftext|>!", "<|endoftext|>\u0301", "''s"),
    *("<|startoftext|>", "<|endoftext|>", "<|ENDOFTEXT|>", "<|StartOfText|>", "<unk>", "</w>"),
    *("\u2581", "<0x41>", "aaaaa"),
    *(" ", "  ", "\t", "\n", "\r\n", "\x0b", "\x00", "\x1c", "\x1f", "\x85", "\xa0", "\u180e"),
    *("\u200b", "\u2028", "\u3000"),
    *("!", "...", "-", "ก็", "क्षि", "𝟙", "🄰", "ʰ", "ª", "Ω", "ΐ", "\u0390", "ᾳ", "ᾼ"),
]  # fmt: skip
"""Parts of random prompts. They include special cases of letter case, composition, whitespace and special tokens."""


def characters() -> list[str]:
    """Return all characters that Python knows, except most of those that have no case: CJK and Hangul."""
    unicase = [range(0x3400, 0x9FFF), range(0xAC00, 0xD7A3), range(0x17000, 0x18D00), range(0x20000, 0x110000)]
    codes = (code for code in range(0x110000) if not any(code in block for block in unicase))
    return [chr(code) for code in codes if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")]


def random_prompts(count: int) -> list[str]:
    """Return special prompts, prompts of random parts, and prompts that together contain all characters."""
    draw = random.Random(0)
    known = characters()
    prompts = ["", " ", "\x1c\u2003", " \u0301", "\u200b", "a " * 5000, "猫" * 3000, *PARTS]
    prompts += ["".join(draw.choices(PARTS, k=draw.randint(1, 12))) for _ in range(count)]
    prompts += ["".join(draw.choices(known, k=draw.randint(1, 12))) for _ in range(count)]
    return prompts + ["_".join(known[start : start + 1000]) for start in range(0, len(known), 1000)]


@pytest.mark.slow  # compiles the Swift package
def test_tokens_of_random_prompts(
    check: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "load_tokenizer", cache(tokenizers.load_tokenizer))
    manifest["text"]["encoders"] = []
    for kind in ("hashed_words", "hashed_phrases"):
        add_encoder(manifest, tmp_path, PortableText({"kind": kind, "width": 12}, nn.Identity(), {}), 4)
    add_encoder(manifest, tmp_path, WordVectorEncoder(max_tokens=6).portable(), 6)
    add_encoder(manifest, tmp_path, clip_tokenizer(), 60)
    add_encoder(manifest, tmp_path, clip_tokenizer(normalized=True), 60)
    add_encoder(manifest, tmp_path, clip_tokenizer(), 2)
    write(manifest, tmp_path)
    prompts = random_prompts(200)
    (result,) = swift(check, tmp_path, [{"bundle": str(tmp_path), "prompts": prompts}])
    assert result["words"] == [split_words(prompt) for prompt in prompts]
    for entry, tokens in zip(manifest["text"]["encoders"], result["tokens"], strict=True):
        for prompt, actual in zip(prompts, tokens, strict=True):
            expected = tokenizers.tokenize(prompt, entry, tmp_path)
            assert actual.keys() == expected.keys()
            for name, values in expected.items():
                message = f"{entry['tokenizer']} {prompt[:200]!r} {name}"
                np.testing.assert_allclose(actual[name], values.reshape(-1).numpy(), atol=1e-6, err_msg=message)
