"""Tests a tiny Qwen3-VL with random weights against the processor and the text generation of transformers."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from transformers import (
    Qwen2VLImageProcessorPil,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from evaluation.judges.qwen_vl import QwenVLAnswerer, is_published
from evaluation.metrics.geneval2.soft_tifa import spellings
from tests.evaluation.judges.random_models import noise, randomize
from tests.evaluation.judges.test_qwen_vl import SPECIAL_TOKENS, TEMPLATE, qwen_tokenizer

QUESTIONS = ["How many dogs? Answer in one word.", "Is the dog red? Answer in one word."]
RIGHT = [spellings("How many dogs?", "two"), spellings("Is the dog red?", "Yes")]


def save_qwen3_vl(folder: Path) -> Path:
    """Save a tiny Qwen3-VL with generation settings for chats, which include sampling."""
    tokenizer = qwen_tokenizer()
    special = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS), strict=True))
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4},
        "bos_token_id": None, "eos_token_id": special["<|im_end|>"],
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32,
        "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=special["<|image_pad|>"],
        video_token_id=special["<|video_pad|>"],
        vision_start_token_id=special["<|vision_start|>"],
        vision_end_token_id=special["<|vision_end|>"],
    )
    model = Qwen3VLForConditionalGeneration(config)
    randomize(model)
    model.generation_config.update(do_sample=True, temperature=2.0, top_k=20)
    model.generation_config.eos_token_id = special["<|im_end|>"]
    model.save_pretrained(folder)
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessorPil(min_pixels=64 * 64, max_pixels=128 * 128, patch_size=16),
        tokenizer=tokenizer,
        video_processor=Qwen3VLVideoProcessor(),
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen3_vl(tmp_path_factory.mktemp("models") / "tiny-qwen3-vl")


def first_token_probabilities(folder: Path, question: str) -> torch.Tensor:
    """Return the probabilities of the first token that transformers generates."""
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = Qwen3VLProcessor.from_pretrained(folder)
    processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    content = [{"type": "image", "image": Image.fromarray(noise(0))}, {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    assert inputs["image_grid_thw"].prod() > 4
    output = model.generate(
        **inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    return torch.as_tensor(output.logits[0][0].double().softmax(0))


def test_probabilities_are_those_of_the_first_generated_token(qwen3: Path) -> None:
    """The probabilities of all spellings of the right answer are added, regardless of the sampling settings."""
    judge = QwenVLAnswerer(qwen3, dtype="float32")
    expected = []
    for question, forms in zip(QUESTIONS, RIGHT, strict=True):
        tokens = {judge.tokenizer(form).input_ids[0] for form in forms}
        assert len(tokens) > 1
        expected.append(float(first_token_probabilities(qwen3, question)[sorted(tokens)].sum()))
    computed = judge.answer_probabilities(noise(0), QUESTIONS, RIGHT)
    assert computed == pytest.approx(expected, rel=1e-4)
    assert computed != judge.answer_probabilities(noise(1), QUESTIONS, RIGHT)


def test_answers_and_yes_probabilities(qwen3: Path) -> None:
    """Qwen3-VL can also answer DPG-Bench's questions, but it is not the judge of any published scores."""
    judge = QwenVLAnswerer(qwen3, dtype="float32")
    text = "is there a dog?\nAnswer with one word."
    probabilities = first_token_probabilities(qwen3, text)
    ids = judge.tokenizer.convert_tokens_to_ids
    yes, no = (float(probabilities[ids(names)].sum()) for names in (["yes", "Yes", "Ġyes"], ["no", "No", "Ġno"]))
    assert judge.yes_probabilities(noise(0), ["is there a dog?"]) == [pytest.approx(yes / (yes + no), rel=1e-4)]
    (answer,) = judge.answers(noise(0), ["is there a dog?"])
    first = judge.tokenizer.decode([int(probabilities.argmax())], skip_special_tokens=True).strip().lower()
    assert answer.startswith(first)
    assert (judge.backend.name, judge.backend.published_for) == ("tiny-qwen3-vl", ())


def test_only_the_published_model_is_recognized() -> None:
    def config(**sizes: int) -> SimpleNamespace:
        text = SimpleNamespace(hidden_size=sizes.get("width", 4096), num_hidden_layers=36)
        return SimpleNamespace(
            model_type="qwen3_vl", text_config=text, vision_config=SimpleNamespace(hidden_size=1152, depth=27)
        )

    assert is_published(config(), "Qwen3-VL-8B-Instruct")
    assert not is_published(config(), "Qwen3-VL-8B-Thinking")
    assert not is_published(config(width=2560), "Qwen3-VL-8B-Instruct")
