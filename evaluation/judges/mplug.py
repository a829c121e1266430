"""mPLUG-large for visual question answering, the judge of DPG-Bench, in plain PyTorch.

Li et al. 2022, arXiv 2205.12005. The published weights are damo/mplug_visual-question-answering_coco_large_en on
ModelScope. The image is encoded by CLIP, a linear layer and a LayerNorm, and the question by 6 BERT layers. Then, 6
fusion layers combine both, and a decoder with 12 layers generates the answer.

Shapes: P image tokens (patches and the class token), T tokens of a question, D width, K beams, V vocabulary size.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from evaluation.assets import Asset
from evaluation.contract import Backend, ImageArray
from evaluation.judges.beam_search import beam_search
from evaluation.judges.mplug_layers import ClipTower, FusionEncoder
from evaluation.judges.mplug_weights import (
    BERT_CONFIG,
    CONFIG,
    PUBLISHED_FOLDER,
    VOCABULARY,
    WEIGHTS,
    MPlugSizes,
    digest_of,
    is_published,
    load_weights,
    read_sizes,
    read_weights,
)
from pocketdit.errors import UserError

START, END = 101, 102  # [CLS] and [SEP] of BERT's vocabulary

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # as in CLIP, for RGB in [0, 1]


class MPlug(nn.Module):
    """mPLUG, with the tensor names of the published weights."""

    def __init__(self, sizes: MPlugSizes) -> None:
        from transformers import BertConfig, BertLMHeadModel, BertModel

        super().__init__()
        config: dict[str, Any] = {
            "vocab_size": sizes.vocabulary,
            "hidden_size": sizes.width,
            "num_attention_heads": sizes.heads,
            "intermediate_size": sizes.inner,
            "max_position_embeddings": sizes.positions,
            "type_vocab_size": sizes.kinds,
            "layer_norm_eps": sizes.eps,
            "hidden_act": "gelu",
        }
        self.visual_encoder = nn.ModuleDict(
            {"visual": ClipTower(sizes.image, sizes.patch, sizes.visual_width, sizes.visual_layers)}
        )
        self.visn_fc = nn.Linear(sizes.visual_width, sizes.width)
        self.visn_layer_norm = nn.LayerNorm(sizes.width, eps=1e-12)
        self.text_encoder = BertModel(
            BertConfig(**config, num_hidden_layers=sizes.text_layers), add_pooling_layer=False
        )
        self.fusion_encoder = FusionEncoder(
            sizes.width, sizes.heads, sizes.inner, sizes.eps, sizes.fusion_first, sizes.fusion_layers, sizes.stride
        )
        # The output layer is not tied to the embedding, because their weights in the file may differ.
        self.text_decoder = BertLMHeadModel(
            BertConfig(
                **config,
                num_hidden_layers=sizes.decoder_layers,
                is_decoder=True,
                add_cross_attention=True,
                tie_word_embeddings=False,
            )
        )

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Encode normalized pixels (1, 3, side, side) as states (1, P, D)."""
        return cast(Tensor, self.visn_layer_norm(self.visn_fc(self.visual_encoder["visual"](pixels))))

    def fuse(self, image: Tensor, question: Tensor) -> Tensor:
        """Fuse an encoded image (1, P, D) and a question's unpadded tokens (1, T) into states (1, P + T, D)."""
        text = self.text_encoder(input_ids=question).last_hidden_state
        return cast(Tensor, self.fusion_encoder(text, image))

    def next_logits(self, states: Tensor, answers: Tensor) -> Tensor:
        """Return logits (K, V) of the next tokens, given fused states (1, P + T, D) and partial answers (K, n)."""
        output = self.text_decoder(
            input_ids=answers, encoder_hidden_states=states.expand(len(answers), -1, -1), use_cache=False
        )
        return cast(Tensor, output.logits[:, -1])


class MPlugAnswerer:
    """Answers questions with mPLUG-large.

    Images are resized to 504x504 (bicubic), ignoring their aspect ratio. Questions are lower-cased and truncated to
    25 tokens. If the weights are not the published ones, the name of the judge is "mplug-vqa (FOLDER)".

    Args:
        folder: The folder that ModelScope publishes, with pytorch_model.bin, config.yaml, config_bert.json and
            vocab.txt.
        sha256: Expected SHA-256 of pytorch_model.bin, as stated by the publisher. If it is None, the published weights
            are recognized by their sizes and the folder's name, which is not proof. ``backend.version`` always
            contains the file's SHA-256.
        device: Device to run on.

    Raises:
        UserError: A file is missing, is for another model, or has a different SHA-256.
    """

    max_text_tokens = 25  # limit for questions, including both special tokens
    assets = tuple(
        Asset("folder", name, f"https://modelscope.cn/models/damo/{PUBLISHED_FOLDER}/resolve/master/{name}", "", size)
        for name, size in ((WEIGHTS, 2_500_000_000), (CONFIG, 2_000), (BERT_CONFIG, 1_000), (VOCABULARY, 232_000))
    )

    def __init__(self, folder: Path, sha256: str | None = None, device: str = "cpu") -> None:
        from transformers import BertTokenizer

        folder = Path(folder)
        self.sizes = read_sizes(folder)
        path = folder / WEIGHTS
        digest = digest_of(path)
        if sha256 is not None and digest != sha256.lower():
            raise UserError(f"{path}: its sha256 is {digest}, not {sha256}; download it again, or correct the sha256")
        if not (folder / VOCABULARY).is_file():
            raise UserError(f"{folder / VOCABULARY}: no such file; it is published with the weights")
        self.tokenizer = BertTokenizer.from_pretrained(str(folder), local_files_only=True, do_lower_case=True)
        model = MPlug(self.sizes)
        load_weights(model, read_weights(path), self.sizes, path)
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        name = folder.resolve().name
        published = is_published(self.sizes, name, digest, sha256)
        self.backend = Backend(
            "mplug-large" if published else f"mplug-vqa ({name})",
            f"sha256 {digest[:16]}, torch {torch.__version__}",
            ("dpg",) if published else (),
        )

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of questions with more tokens than the model reads."""
        return sum(len(self.tokenizer(text).input_ids) > self.max_text_tokens for text in texts)

    def answers(self, image: ImageArray, questions: Sequence[str]) -> list[str]:
        """Return the answer to each question, using beam search."""
        sizes = self.sizes
        answers = []
        for states in self._encode(image, questions):
            next_logits = partial(self._next_logits, states)
            tokens = beam_search(next_logits, sizes.beams, sizes.min_tokens, sizes.max_tokens, START, END)
            answers.append(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return answers

    def yes_probabilities(self, image: ImageArray, questions: Sequence[str]) -> list[float]:
        """Return p(yes) / (p(yes) + p(no)) for each answer's first token."""
        yes_and_no = self.tokenizer.convert_tokens_to_ids(["yes", "no"])
        start = torch.tensor([[START]])
        return [
            float(self._next_logits(states, start)[0, yes_and_no].softmax(dim=-1)[0])
            for states in self._encode(image, questions)
        ]

    @torch.inference_mode()
    def _encode(self, image: ImageArray, questions: Sequence[str]) -> list[Tensor]:
        """Return the fused states of the image and each question."""
        with torch.autocast(self.device.type, enabled=False):
            encoded = self.model.encode_image(preprocess(image, self.sizes.image).to(self.device))
            return [self.model.fuse(encoded, self._tokens(question)) for question in questions]

    def _tokens(self, question: str) -> Tensor:
        encoding = self.tokenizer(question, truncation=True, max_length=self.max_text_tokens, return_tensors="pt")
        return cast(Tensor, encoding.input_ids.to(self.device))

    @torch.inference_mode()
    def _next_logits(self, states: Tensor, tokens: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            return self.model.next_logits(states, tokens.to(self.device))


def preprocess(image: ImageArray, side: int) -> Tensor:
    """Resize an image (H, W, 3) to (1, 3, side, side), ignoring its aspect ratio, and normalize it for CLIP."""
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    values = (np.asarray(resized, dtype=np.float32) / 255 - np.asarray(_MEAN, np.float32)) / np.asarray(
        _STD, np.float32
    )
    return torch.from_numpy(values).permute(2, 0, 1)[None]
