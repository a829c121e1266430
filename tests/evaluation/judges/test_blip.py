"""Tests a tiny BLIP with random weights against the text generation of transformers."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer, BlipConfig, BlipForQuestionAnswering, BlipImageProcessorPil, BlipProcessor

from evaluation.judges.blip import BlipAnswerer
from pocketdit.errors import UserError
from tests.evaluation.judges.random_models import QUESTIONS, noise, randomize

WORDS = ["yes", "no", "is", "there", "a", "red", "dog", "house", "?", "in", "the", "what", "two", "cat"]
BERT_WORDS = ["[PAD]", *(f"[unused{i}]" for i in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
SPECIAL = (0, 100, 101, 102, 103)
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
    randomize(model)
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
    inputs = dict(processor(images=Image.fromarray(noise(seed)), text=question, return_tensors="pt"))
    inputs["input_ids"][:, 0] = ENC
    return model, inputs


def test_answers_match_generation_with_three_beams(blip: Path, blip_answerer: BlipAnswerer) -> None:
    answers: dict[int, list[str]] = {1: [], 3: []}
    for seed in range(8):
        for question in QUESTIONS:
            model, inputs = blip_inputs(blip, question, seed)
            for beams, texts in answers.items():
                tokens = model.generate(**inputs, num_beams=beams, min_length=1, max_length=10)[0].tolist()
                texts.append(" ".join(BERT_WORDS[token] for token in tokens if token < DEC and token not in SPECIAL))
    assert answers[1] != answers[3], "greedy search produces the same answers, so this test cannot check the beams"
    assert [answer for seed in range(8) for answer in blip_answerer.answers(noise(seed), QUESTIONS)] == answers[3]


def test_probabilities_match_those_of_the_first_generated_token(blip: Path, blip_answerer: BlipAnswerer) -> None:
    expected = []
    for question in QUESTIONS:
        model, inputs = blip_inputs(blip, question)
        output = model.generate(
            **inputs, num_beams=1, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
        )
        yes, no = output.logits[0][0, [BERT_WORDS.index("yes"), BERT_WORDS.index("no")]].exp().tolist()
        expected.append(yes / (yes + no))
    probabilities = blip_answerer.yes_probabilities(noise(0), QUESTIONS)
    assert probabilities == pytest.approx(expected, abs=1e-5)
    assert max(probabilities) - min(probabilities) > 1e-3
    assert blip_answerer.yes_probabilities(noise(0), QUESTIONS[1:2])[0] == probabilities[1]
    assert abs(blip_answerer.yes_probabilities(noise(1), QUESTIONS[:1])[0] - probabilities[0]) > 1e-4


def test_questions_are_truncated_to_35_tokens(blip_answerer: BlipAnswerer) -> None:
    words = ("a red dog in the house ? what is there two cat " * 3).split()[
        :34
    ]  # 36 tokens, including the two special tokens
    within, beyond = [*words[:32], "yes", words[33]], [*words[:33], "yes"]
    questions = [" ".join(question) for question in (words, within, beyond)]
    probabilities = blip_answerer.yes_probabilities(noise(0), questions)
    assert probabilities[0] == probabilities[2] != probabilities[1]
    assert blip_answerer.count_truncated([*questions, " ".join(words[:33])]) == 3


def test_backend_states_name_and_weights(blip: Path, blip_answerer: BlipAnswerer, tmp_path: Path) -> None:
    assert (blip_answerer.backend.name, blip_answerer.backend.published_for) == ("tiny-blip", ())
    assert BlipAnswerer(blip, name="blip-x").backend.name == "blip-x"
    other = copy_folder(blip, tmp_path)
    weights = load_file(other / "model.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.ndim > 1)
    weights[name] = weights[name] + 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert BlipAnswerer(other).backend.version != blip_answerer.backend.version


def copy_folder(folder: Path, target: Path) -> Path:
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_missing_weights_are_reported(blip: Path, tmp_path: Path) -> None:
    folder = copy_folder(blip, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["vision_model.post_layernorm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"missing weights: vision_model\.post_layernorm\.weight$"):
        BlipAnswerer(folder)


def test_other_folders_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="contains a model of type bert, not BLIP"):
        BlipAnswerer(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        BlipAnswerer(tmp_path / "nothing")
