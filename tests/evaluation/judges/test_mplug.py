"""Tests a tiny mPLUG with random weights, saved in the published format and loaded the way a user loads it."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms  # type: ignore[import-untyped]  # torchvision has no py.typed marker
from transformers import BertConfig, BertLMHeadModel, BertModel, CLIPVisionConfig, CLIPVisionModel
from transformers.models.bert.modeling_bert import BertLayer

from evaluation.contract import ImageArray
from evaluation.judges.beam_search import beam_search
from evaluation.judges.mplug import END, START, MPlug, MPlugAnswerer, preprocess
from evaluation.judges.mplug_weights import PUBLISHED_FOLDER, MPlugSizes, is_published, read_sizes
from pocketdit.errors import UserError

WORDS = [
    "yes",
    "no",
    "is",
    "there",
    "a",
    "red",
    "dog",
    "blue",
    "house",
    "?",
    "in",
    "the",
    "photo",
    "what",
    "two",
    "cat",
]
VOCABULARY = ["[PAD]", *(f"[unused{i}]" for i in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]

BERT: dict[str, Any] = {
    "hidden_act": "gelu",
    "hidden_size": 48,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 40,
    "num_attention_heads": 4,
    "num_hidden_layers": 6,
    "type_vocab_size": 2,
    "vocab_size": len(VOCABULARY),
    "text_encoder_layers": 2,
    "fusion_layers": 4,
    "text_decode_layers": 2,
    "stride_layer": 4,
}
GENERAL = {
    "image_res": 28,
    "vision_width": 128,
    "clip_vision_width": 128,
    "clip_vision_layers": 2,
    "clip_vision_patch_size": 14,
    "min_length": 1,
    "max_length": 4,
    "beam_size": 3,
}
# Tensors in the published file that are not needed for answering questions.
EXTRA = [
    "visual_encoder.positional_embedding",
    "visual_encoder.text_projection",
    "visual_encoder.logit_scale",
    "visual_encoder.token_embedding.weight",
    "visual_encoder.ln_final.weight",
    "visual_encoder.transformer.resblocks.0.attn.in_proj_weight",
    "visual_encoder.visual.proj",
    "visual_encoder_m.visual.conv1.weight",
    "text_encoder_m.embeddings.word_embeddings.weight",
    "fusion_encoder_m.encoder.layer.2.attention.self.query.weight",
    "text_decoder_m.cls.predictions.bias",
    "visn_fc_m.weight",
    "visn_layer_norm_m.bias",
    "text_encoder.embeddings.position_ids",
    "text_decoder.bert.embeddings.position_ids",
    "fusion_encoder.encoder.layer.0.attention.self.query.weight",
    "fusion_encoder.encoder.layer.1.output.LayerNorm.bias",
]


def write(folder: Path, weights: dict[str, Any], **bert: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(GENERAL))
    (folder / "config_bert.json").write_text(json.dumps(BERT | bert))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


def random_weights(folder: Path) -> dict[str, Tensor]:
    """Return random weights that are large enough for the answers to depend on both question and image."""
    torch.manual_seed(0)
    model = MPlug(read_sizes(folder))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.5 / math.sqrt(parameter.shape[-1]) if "embedding" not in name else 0.5)
            else:
                nn.init.normal_(parameter, mean=float(parameter.mean()), std=0.2)
        head = model.text_decoder.cls.predictions
        head.bias.copy_(head.decoder.bias)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module", params=[4, 2], ids=["large", "with a joint layer"])
def stride(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    return random_weights(write(tmp_path_factory.mktemp("sizes"), {}))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Tensor], stride: int) -> Path:
    extra = {name: torch.full((2, 3), float("nan")) for name in EXTRA}
    folder = tmp_path_factory.mktemp("mplug") / "tiny"
    return write(folder, {"model": {f"module.{name}": t for name, t in (weights | extra).items()}}, stride_layer=stride)


@pytest.fixture(scope="module")
def answerer(published: Path) -> MPlugAnswerer:
    return MPlugAnswerer(published)


def noise(seed: int) -> ImageArray:
    return np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)


# Tests that compare the network with modules of transformers. Questions are padded to 25 tokens, as in the published
# code.


class Reference:
    def __init__(self, weights: dict[str, Tensor], stride: int) -> None:
        self.stride = stride
        sizes = {key: value for key, value in BERT.items() if "layers" not in key and key != "stride_layer"}
        clip = CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
            hidden_act="quick_gelu",
        )
        self.tower = _load(CLIPVisionModel(clip), _clip_names(weights))
        self.connect = _load(nn.Linear(128, 48), _with_prefix(weights, "visn_fc."))
        self.norm = _load(nn.LayerNorm(48, eps=1e-12), _with_prefix(weights, "visn_layer_norm."))
        text = BertModel(BertConfig(**sizes, num_hidden_layers=2), add_pooling_layer=False)
        self.text = _load(text, _with_prefix(weights, "text_encoder."))
        layer = BertConfig(**sizes, is_decoder=True, add_cross_attention=True, attn_implementation="eager")
        layer._attn_implementation = "eager"
        self.fusion = [
            _load(BertLayer(layer), _with_prefix(weights, f"fusion_encoder.encoder.layer.{i}.")) for i in range(2, 6)
        ]
        decoder = BertLMHeadModel(
            BertConfig(
                **sizes, num_hidden_layers=2, is_decoder=True, add_cross_attention=True, tie_word_embeddings=False
            )
        )
        self.decoder = _load(decoder, _with_prefix(weights, "text_decoder."))

    @torch.inference_mode()
    def encode(self, image: ImageArray, question: list[int]) -> Callable[[Tensor], Tensor]:
        transform = transforms.Compose(
            [
                transforms.Resize((28, 28), interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.ToTensor(),
                transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
            ]
        )
        image_states = self.tower(transform(Image.fromarray(image))[None]).last_hidden_state
        image_states = self.norm(self.connect(self.tower.post_layernorm(image_states)))
        tokens = torch.tensor([question + [0] * (25 - len(question))])
        mask = (tokens != 0).long()
        states = self.text(input_ids=tokens, attention_mask=mask).last_hidden_state
        padding = (1 - mask[:, None, None, :].float()) * -10000
        for i, layer in enumerate(self.fusion):
            if i and i % self.stride == 0:
                joint_padding = torch.cat([torch.zeros(1, 1, 1, image_states.shape[1]), padding], dim=3)
                joint = layer(torch.cat([image_states, states], 1), joint_padding)
                count = image_states.shape[1]
                image_states, states = image_states + joint[:, :count], joint[:, count:]
            else:
                states = layer(states, padding, encoder_hidden_states=image_states)
        joined = torch.cat([image_states, states], 1)
        joined_mask = torch.cat([torch.ones(1, image_states.shape[1], dtype=torch.long), mask], 1)

        def next_logits(alive: Tensor) -> Tensor:
            with torch.inference_mode():
                output = self.decoder(
                    input_ids=alive,
                    encoder_hidden_states=joined.expand(len(alive), -1, -1),
                    encoder_attention_mask=joined_mask.expand(len(alive), -1),
                )
            logits: Tensor = output.logits[:, -1]
            return logits

        return next_logits


def _with_prefix(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _clip_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "conv1.": "embeddings.patch_embedding.",
        "ln_pre.": "pre_layrnorm.",
        "ln_post.": "post_layernorm.",
        "transformer.resblocks.": "encoder.layers.",
        ".ln_1.": ".layer_norm1.",
        ".ln_2.": ".layer_norm2.",
        ".mlp.c_fc.": ".mlp.fc1.",
        ".mlp.c_proj.": ".mlp.fc2.",
        ".attn.out_proj.": ".self_attn.out_proj.",
    }
    renamed: dict[str, Tensor] = {}
    for name, tensor in _with_prefix(weights, "visual_encoder.visual.").items():
        for old, new in names.items():
            name = name.replace(old, new)
        if ".attn.in_proj_" in name:
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                renamed[name.replace(".attn.in_proj_", f".self_attn.{part}_proj.")] = third
        else:
            renamed[name] = tensor
    return renamed


def _load(module: Any, weights: dict[str, Tensor]) -> Any:
    expected = set(module.state_dict())
    if all(name.startswith("vision_model.") for name in expected):
        weights = {f"vision_model.{name}": tensor for name, tensor in weights.items()}
    module.load_state_dict(weights)
    return module.eval()


def tokens_of(question: str) -> list[int]:
    return [101, *(VOCABULARY.index(word) for word in question.split()), 102]


@pytest.mark.parametrize("question", ["is there a red dog ?", "yes", "what is in the house ?"])
def test_network_matches_modules_of_transformers(
    answerer: MPlugAnswerer, weights: dict[str, Tensor], stride: int, question: str
) -> None:
    next_logits = Reference(weights, stride).encode(noise(0), tokens_of(question))
    yes_and_no = [VOCABULARY.index("yes"), VOCABULARY.index("no")]
    expected = next_logits(torch.tensor([[101]]))[0, yes_and_no].softmax(0)[0]
    assert answerer.yes_probabilities(noise(0), [question]) == pytest.approx([float(expected)], abs=1e-5)
    tokens = beam_search(next_logits, beams=3, min_tokens=1, max_tokens=4, start=START, end=END)
    answer = " ".join(VOCABULARY[token] for token in tokens if token not in (0, 100, 101, 102, 103))
    assert answerer.answers(noise(0), [question]) == [answer]


def test_vision_tower_contains_all_blocks_of_clip(weights: dict[str, Tensor], answerer: MPlugAnswerer) -> None:
    reference = Reference(weights, 4).tower
    pixels = preprocess(noise(0), 28)
    with torch.inference_mode():
        states = answerer.model.visual_encoder["visual"](pixels)
        expected = reference.post_layernorm(reference(pixels).last_hidden_state)
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)


def test_answers_depend_on_image_and_question_but_not_on_other_questions(
    answerer: MPlugAnswerer,
) -> None:
    questions = ["is there a red dog ?", "what is in the house ?"]
    both = answerer.yes_probabilities(noise(0), questions)
    assert abs(both[0] - both[1]) > 1e-3
    assert answerer.yes_probabilities(noise(0), questions[::-1]) == both[::-1]
    assert abs(answerer.yes_probabilities(noise(1), questions[:1])[0] - both[0]) > 1e-3
    assert answerer.answers(noise(0), questions[::-1]) == answerer.answers(noise(0), questions)[::-1]


def test_questions_are_lower_cased_and_truncated_to_25_tokens(answerer: MPlugAnswerer) -> None:
    lower, upper = answerer.yes_probabilities(noise(0), ["is there a red dog ?", "IS there A RED dog?"])
    assert lower == upper
    words = [
        "a",
        "red",
        "dog",
        "in",
        "the",
        "house",
        "?",
        "what",
        "is",
        "there",
        "two",
        "cat",
    ] * 2  # 24 words
    within, beyond = [*words[:22], "yes", words[23]], [*words[:23], "yes"]
    questions = [" ".join(question) for question in (words, within, beyond)]
    probabilities = answerer.yes_probabilities(noise(0), questions)
    assert probabilities[0] == probabilities[2] != probabilities[1]
    assert answerer.count_truncated([*questions, " ".join(words[:23])]) == 3


def test_images_are_resized_as_in_torchvision() -> None:
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    expected = transforms.Compose(
        [
            transforms.Resize((28, 28), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )(Image.fromarray(noise(0)))
    torch.testing.assert_close(preprocess(noise(0), 28)[0], expected)


# Tests for loading the published files.


def test_all_needed_tensors_are_loaded(answerer: MPlugAnswerer, weights: dict[str, Tensor]) -> None:
    loaded = answerer.model.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_names_and_shapes_of_the_large_model() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in MPlug(MPlugSizes()).state_dict().items()}
    layer = "encoder.layer.{}.crossattention.self.query.weight"
    expected = {
        "visual_encoder.visual.class_embedding": (1024,),
        "visual_encoder.visual.positional_embedding": (36 * 36 + 1, 1024),
        "visual_encoder.visual.conv1.weight": (1024, 3, 14, 14),
        "visual_encoder.visual.ln_pre.weight": (1024,),
        "visual_encoder.visual.ln_post.bias": (1024,),
        "visual_encoder.visual.transformer.resblocks.23.attn.in_proj_weight": (3072, 1024),
        "visual_encoder.visual.transformer.resblocks.23.attn.out_proj.bias": (1024,),
        "visual_encoder.visual.transformer.resblocks.23.ln_1.weight": (1024,),
        "visual_encoder.visual.transformer.resblocks.23.mlp.c_fc.weight": (4096, 1024),
        "visual_encoder.visual.transformer.resblocks.23.mlp.c_proj.bias": (1024,),
        "visn_fc.weight": (768, 1024),
        "visn_layer_norm.weight": (768,),
        "text_encoder.embeddings.word_embeddings.weight": (30522, 768),
        "text_encoder.embeddings.LayerNorm.weight": (768,),
        "text_encoder.encoder.layer.5.attention.output.LayerNorm.bias": (768,),
        "fusion_encoder." + layer.format(6): (768, 768),
        "fusion_encoder." + layer.format(11): (768, 768),
        "fusion_encoder.encoder.layer.11.attention.output.dense.weight": (768, 768),
        "fusion_encoder.encoder.layer.11.intermediate.dense.weight": (3072, 768),
        "fusion_encoder.encoder.layer.11.output.LayerNorm.weight": (768,),
        "text_decoder.bert." + layer.format(11): (768, 768),
        "text_decoder.bert.embeddings.position_embeddings.weight": (512, 768),
        "text_decoder.cls.predictions.bias": (30522,),
        "text_decoder.cls.predictions.decoder.weight": (30522, 768),
        "text_decoder.cls.predictions.transform.LayerNorm.weight": (768,),
        "text_decoder.cls.predictions.transform.dense.weight": (768, 768),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert not any(".resblocks.24." in name or "fusion_encoder.encoder.layer.5." in name for name in shapes)


def test_published_configuration_has_the_sizes_of_the_large_model(tmp_path: Path) -> None:
    sizes = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "vocab_size": 30522,
        "text_encoder_layers": 6,
        "fusion_layers": 6,
        "text_decode_layers": 12,
        "stride_layer": 6,
    }
    folder = write(tmp_path, {}, **sizes)
    (folder / "config.yaml").write_text("image_res: 504\nvision_width: 1024\nclip_name: ViT-L-14\nbeam_size: 5\n")
    assert read_sizes(folder) == MPlugSizes()


def test_output_layer_is_loaded_under_either_name(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    head = "text_decoder.cls.predictions"
    tied = weights | {f"{head}.decoder.weight": weights["text_decoder.bert.embeddings.word_embeddings.weight"]}
    short = {name: tensor for name, tensor in tied.items() if not name.startswith(f"{head}.decoder.")}
    from_both = MPlugAnswerer(write(tmp_path / "both", tied))
    from_one = MPlugAnswerer(write(tmp_path / "one", short))
    questions = ["is there a red dog ?"]
    assert from_one.yes_probabilities(noise(0), questions) == from_both.yes_probabilities(noise(0), questions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("visn_fc.weight"), r"1 tensor missing \(the first is visn_fc.weight\)"),
        (lambda t: t.update({"itm_head.weight": torch.zeros(2)}), r"unknown \(the first is itm_head.weight\)"),
        (lambda t: t.update({"visn_fc.bias": torch.zeros(3)}), r"of a different shape \(the first is visn_fc.bias\)"),
        (lambda t: t.update({"epoch": 3}), "does not contain a dictionary of tensors"),
        (lambda t: t.update({"path": Path("x")}), "does not contain plain weights of mPLUG-large"),
    ],
)
def test_other_weights_are_rejected(
    tmp_path: Path, weights: dict[str, Tensor], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    changed: dict[str, Any] = dict(weights)
    change(changed)
    with pytest.raises(UserError, match=message):
        MPlugAnswerer(write(tmp_path, changed))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "config.yaml", "config_bert.json", "vocab.txt"])
def test_missing_file_is_reported(tmp_path: Path, weights: dict[str, Tensor], name: str) -> None:
    (write(tmp_path, weights) / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: (cannot be read|no such file)"):
        MPlugAnswerer(tmp_path)


def test_only_the_published_weights_yield_the_bare_name(published: Path) -> None:
    digest = hashlib.sha256((published / "pytorch_model.bin").read_bytes()).hexdigest()
    tiny = MPlugAnswerer(published, sha256=digest.upper()).backend
    assert (tiny.name, tiny.published_for) == ("mplug-vqa (tiny)", ())
    assert digest[:16] in tiny.version
    with pytest.raises(UserError, match=f"its sha256 is {digest}"):
        MPlugAnswerer(published, sha256="0" * 64)


@pytest.mark.parametrize(
    ("sizes", "name", "sha256", "expected"),
    [
        (MPlugSizes(), PUBLISHED_FOLDER, None, True),
        (MPlugSizes(), "other", None, False),
        (MPlugSizes(), "other", "AB", True),
        (MPlugSizes(), PUBLISHED_FOLDER, "cd", False),
        (MPlugSizes(stride=3), PUBLISHED_FOLDER, "ab", False),
    ],
)
def test_published_weights_are_recognized(sizes: MPlugSizes, name: str, sha256: str | None, expected: bool) -> None:
    assert is_published(sizes, name, "ab", sha256) is expected
