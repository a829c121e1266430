"""Tests a tiny Qwen2.5-VL with random weights against the processor of transformers and greedy decoding.

The model's byte-level tokenizer contains the spellings below and the special tokens of its chat template.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen2VLVideoProcessor,
)

from evaluation.judges.qwen_vl import QwenVLAnswerer
from pocketdit.errors import UserError
from tests.evaluation.judges.random_models import QUESTIONS, noise, randomize

SPELLINGS = ["yes", "Yes", "no", "No", "red", "dog", "two", "Two"]
SPECIAL_TOKENS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen_tokenizer() -> Qwen2Tokenizer:
    from tokenizers.pre_tokenizers import ByteLevel

    pieces, merges = sorted(ByteLevel.alphabet()), []
    for spelling in SPELLINGS:
        for i in range(2, len(spelling) + 1):
            if spelling[:i] not in pieces:
                pieces.append(spelling[:i])
                merges.append((spelling[: i - 1], spelling[i - 1]))
    pieces += ["Ġyes", "Ġno", "<|endoftext|>"]
    merges += [("Ġ", "yes"), ("Ġ", "no")]
    tokenizer = Qwen2Tokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL_TOKENS})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen"
    tokenizer = qwen_tokenizer()
    special = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS), strict=True))
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": special["<|im_end|>"],
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=special["<|image_pad|>"],
        video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"],
        vision_end_token_id=special["<|vision_end|>"],
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    randomize(model)
    model.generation_config.update(do_sample=True, temperature=2.0, top_k=50, repetition_penalty=1.5)
    model.generation_config.eos_token_id = special["<|im_end|>"]
    model.save_pretrained(folder)
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=112 * 112),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def qwen_answerer(qwen: Path) -> QwenVLAnswerer:
    return QwenVLAnswerer(qwen, dtype="float32")


def qwen_inputs(folder: Path, question: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return the model, its tokenizer, and the inputs that the processor of transformers creates."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = Qwen2_5_VLProcessor.from_pretrained(folder)
    processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    content = [
        {"type": "image", "image": Image.fromarray(noise(0))},
        {"type": "text", "text": f"{question}\nAnswer with one word."},
    ]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    return model, processor.tokenizer, dict(inputs)


def test_inputs_match_the_processor_of_transformers(qwen: Path, qwen_answerer: QwenVLAnswerer) -> None:
    for question, inputs in zip(QUESTIONS, qwen_answerer._inputs(noise(0), QUESTIONS), strict=True):
        expected = qwen_inputs(qwen, question)[2]
        assert expected["image_grid_thw"].prod() > 4
        assert inputs.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(inputs[key], value, check_dtype=False)


@pytest.mark.parametrize("question", QUESTIONS)
def test_decoding_is_greedy_despite_the_checkpoints_sampling_settings(
    qwen: Path, qwen_answerer: QwenVLAnswerer, question: str
) -> None:
    model, tokenizer, inputs = qwen_inputs(qwen, question)
    tokens = inputs["input_ids"]
    generated: list[int] = []
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    while len(generated) < 16 and generated[-1:] != [end]:
        extended = inputs | {
            "input_ids": torch.cat([tokens, torch.tensor([generated], dtype=torch.long)], 1),
            "attention_mask": torch.ones(1, tokens.shape[1] + len(generated), dtype=torch.long),
            "mm_token_type_ids": nn.functional.pad(inputs["mm_token_type_ids"], (0, len(generated))),
        }
        with torch.inference_mode():
            generated.append(int(model(**extended, use_cache=False).logits[0, -1].argmax()))
    expected = tokenizer.decode(generated, skip_special_tokens=True).strip().rstrip(".").lower()
    assert qwen_answerer.answers(noise(0), [question]) == [expected]


def test_probabilities_cover_all_spellings(qwen: Path, qwen_answerer: QwenVLAnswerer) -> None:
    expected = []
    for question in QUESTIONS:
        model, tokenizer, inputs = qwen_inputs(qwen, question)
        with torch.inference_mode():
            probabilities = model(**inputs).logits[0, -1].double().softmax(0)
        yes, no = (
            float(probabilities[tokenizer.convert_tokens_to_ids(spellings)].sum())
            for spellings in (["yes", "Yes", "Ġyes"], ["no", "No", "Ġno"])
        )
        expected.append(yes / (yes + no))
    computed = qwen_answerer.yes_probabilities(noise(0), QUESTIONS)
    assert computed == pytest.approx(expected, abs=1e-5)
    assert max(computed) - min(computed) > 1e-3
    assert abs(qwen_answerer.yes_probabilities(noise(1), QUESTIONS[:1])[0] - computed[0]) > 1e-4


def test_instruction_affects_answers_and_backend(qwen: Path, qwen_answerer: QwenVLAnswerer) -> None:
    other = QwenVLAnswerer(qwen, dtype="float32", instruction="yes or no")
    assert other.backend.name == "tiny-qwen"
    assert other.backend.version != qwen_answerer.backend.version
    assert other.yes_probabilities(noise(0), QUESTIONS) != qwen_answerer.yes_probabilities(noise(0), QUESTIONS)


def test_other_models_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"contains a model of type bert, not Qwen2\.5-VL"):
        QwenVLAnswerer(tmp_path)
