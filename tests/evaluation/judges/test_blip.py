"""Tiny BLIP and Qwen2.5-VL with random weights, saved as transformers does and loaded as a user does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForQuestionAnswering,
    BlipImageProcessorPil,
    BlipProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen2VLVideoProcessor,
)

from evaluation.contract import ImageArray
from evaluation.judges.blip import BlipAnswerer
from evaluation.judges.qwen_vl import QwenVLAnswerer
from pocketdit.errors import UserError

QUESTIONS = ["is there a red dog ?", "what is in the house ?", "a cat ?"]


def picture(seed: int) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)


def spread(model: nn.Module) -> None:
    """Random weights, large enough for the answers to depend on what is asked and shown."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)


WORDS = ["yes", "no", "is", "there", "a", "red", "dog", "house", "?", "in", "the", "what", "two", "cat"]
BERT_WORDS = ["[PAD]", *(f"[unused{i}]" for i in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
MARKED = (0, 100, 101, 102, 103)
DEC, ENC = len(BERT_WORDS), len(BERT_WORDS) + 1


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-blip"
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = shared | {
        "vocab_size": len(BERT_WORDS) + 2,
        "encoder_hidden_size": 32,
        "max_position_embeddings": 40,
        "bos_token_id": DEC,
        "sep_token_id": 102,
        "pad_token_id": 0,
        "is_decoder": True,
    }
    config = BlipConfig(text_config=text, vision_config=shared | {"image_size": 32, "patch_size": 16})
    model = BlipForQuestionAnswering(config)
    spread(model)
    model.save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(BERT_WORDS)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def blip_answerer(blip: Path) -> BlipAnswerer:
    return BlipAnswerer(blip)


def blip_inputs(folder: Path, question: str, seed: int = 0) -> tuple[Any, dict[str, Any]]:
    model = BlipForQuestionAnswering.from_pretrained(folder).eval()
    processor = BlipProcessor.from_pretrained(folder, backend="pil")
    inputs = dict(processor(images=Image.fromarray(picture(seed)), text=question, return_tensors="pt"))
    inputs["input_ids"][:, 0] = ENC
    return model, inputs


def test_blip_answers_are_those_of_its_own_generate_with_three_beams(blip: Path, blip_answerer: BlipAnswerer) -> None:
    written: dict[int, list[str]] = {1: [], 3: []}
    for seed in range(8):
        for question in QUESTIONS:
            model, inputs = blip_inputs(blip, question, seed)
            for beams, texts in written.items():
                tokens = model.generate(**inputs, num_beams=beams, min_length=1, max_length=10)[0].tolist()
                texts.append(" ".join(BERT_WORDS[token] for token in tokens if token < DEC and token not in MARKED))
    assert written[1] != written[3]  # else this would not tell
    found = [answer for seed in range(8) for answer in blip_answerer.answers(picture(seed), QUESTIONS)]
    assert found == written[3]


def test_blip_probabilities_are_of_the_first_token_that_its_own_generate_writes(
    blip: Path, blip_answerer: BlipAnswerer
) -> None:
    expected = []
    for question in QUESTIONS:
        model, inputs = blip_inputs(blip, question)
        output = model.generate(
            **inputs, num_beams=1, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
        )
        yes, no = output.logits[0][0, [BERT_WORDS.index("yes"), BERT_WORDS.index("no")]].exp().tolist()
        expected.append(yes / (yes + no))
    found = blip_answerer.yes_probabilities(picture(0), QUESTIONS)
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(found) - min(found) > 1e-3
    assert blip_answerer.yes_probabilities(picture(0), QUESTIONS[1:2])[0] == found[1]
    assert abs(blip_answerer.yes_probabilities(picture(1), QUESTIONS[:1])[0] - found[0]) > 1e-4


def test_blip_cuts_questions_at_35_tokens(blip_answerer: BlipAnswerer) -> None:
    words = ("a red dog in the house ? what is there two cat " * 3).split()[:34]  # and two marks
    within, beyond = [*words[:32], "yes", words[33]], [*words[:33], "yes"]
    found = blip_answerer.yes_probabilities(picture(0), [" ".join(said) for said in (words, within, beyond)])
    assert found[0] == found[2] != found[1]


def test_a_result_bears_the_models_name_and_weights(blip: Path, blip_answerer: BlipAnswerer, tmp_path: Path) -> None:
    assert (blip_answerer.backend.name, blip_answerer.backend.published_for) == ("tiny-blip", ())
    assert BlipAnswerer(blip, name="blip-x").backend.name == "blip-x"
    other = copy(blip, tmp_path)
    weights = load_file(other / "model.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.ndim > 1)
    weights[name] = weights[name] + 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert BlipAnswerer(other).backend.version != blip_answerer.backend.version


def copy(folder: Path, to: Path) -> Path:
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_blip_with_weights_missing_is_refused(blip: Path, tmp_path: Path) -> None:
    folder = copy(blip, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["vision_model.post_layernorm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 weights are missing, the first is vision_model\.post_layernorm\.weight"):
        BlipAnswerer(folder)


# Qwen2.5-VL: a byte-level tokenizer with the words below, and the marks that its chat template uses.

SPELLINGS = ["yes", "Yes", "no", "No", "red", "dog"]
MARKS = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
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
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-qwen"
    tokenizer = qwen_tokenizer()
    marks = dict(zip(MARKS, tokenizer.convert_tokens_to_ids(MARKS), strict=True))
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
        "eos_token_id": marks["<|im_end|>"],
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
        image_token_id=marks["<|image_pad|>"],
        video_token_id=marks["<|video_pad|>"],
        vision_start_token_id=marks["<|vision_start|>"],
        vision_end_token_id=marks["<|vision_end|>"],
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    spread(model)
    model.generation_config.update(do_sample=True, temperature=2.0, top_k=50, repetition_penalty=1.5)
    model.generation_config.eos_token_id = marks["<|im_end|>"]
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
    """Through the processor that transformers means for it."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = Qwen2_5_VLProcessor.from_pretrained(folder)
    processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    content = [
        {"type": "image", "image": Image.fromarray(picture(0))},
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


def test_qwen_is_asked_as_its_own_processor_asks(qwen: Path, qwen_answerer: QwenVLAnswerer) -> None:
    for question, found in zip(QUESTIONS, qwen_answerer._inputs(picture(0), QUESTIONS), strict=True):
        expected = qwen_inputs(qwen, question)[2]
        assert expected["image_grid_thw"].prod() > 4
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, check_dtype=False)


@pytest.mark.parametrize("question", QUESTIONS)
def test_qwen_answers_greedily_whatever_its_checkpoint_says_of_sampling(
    qwen: Path, qwen_answerer: QwenVLAnswerer, question: str
) -> None:
    model, tokenizer, inputs = qwen_inputs(qwen, question)
    tokens = inputs["input_ids"]
    written: list[int] = []
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    while len(written) < 16 and written[-1:] != [end]:
        extended = inputs | {
            "input_ids": torch.cat([tokens, torch.tensor([written], dtype=torch.long)], 1),
            "attention_mask": torch.ones(1, tokens.shape[1] + len(written), dtype=torch.long),
            "mm_token_type_ids": nn.functional.pad(inputs["mm_token_type_ids"], (0, len(written))),
        }
        with torch.inference_mode():
            written.append(int(model(**extended, use_cache=False).logits[0, -1].argmax()))
    expected = tokenizer.decode(written, skip_special_tokens=True).strip().rstrip(".").lower()
    assert qwen_answerer.answers(picture(0), [question]) == [expected]


def test_qwen_probabilities_are_over_all_spellings(qwen: Path, qwen_answerer: QwenVLAnswerer) -> None:
    expected = []
    for question in QUESTIONS:
        model, tokenizer, inputs = qwen_inputs(qwen, question)
        with torch.inference_mode():
            chances = model(**inputs).logits[0, -1].double().softmax(0)
        yes, no = (
            float(chances[tokenizer.convert_tokens_to_ids(words)].sum())
            for words in (["yes", "Yes", "Ġyes"], ["no", "No", "Ġno"])
        )
        expected.append(yes / (yes + no))
    found = qwen_answerer.yes_probabilities(picture(0), QUESTIONS)
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(found) - min(found) > 1e-3
    assert abs(qwen_answerer.yes_probabilities(picture(1), QUESTIONS[:1])[0] - found[0]) > 1e-4


def test_the_instruction_is_part_of_the_question_and_of_the_backend(qwen: Path, qwen_answerer: QwenVLAnswerer) -> None:
    other = QwenVLAnswerer(qwen, dtype="float32", instruction="yes or no")
    assert other.backend.name == "tiny-qwen"
    assert other.backend.version != qwen_answerer.backend.version
    assert other.yes_probabilities(picture(0), QUESTIONS) != qwen_answerer.yes_probabilities(picture(0), QUESTIONS)


def test_another_model_in_the_folder_is_refused(blip: Path, qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds a model of type qwen2_5_vl, not BLIP"):
        BlipAnswerer(qwen)
    with pytest.raises(UserError, match=r"holds a model of type blip, not Qwen2\.5-VL"):
        QwenVLAnswerer(blip)
    with pytest.raises(UserError, match="no such folder"):
        BlipAnswerer(tmp_path / "nothing")
