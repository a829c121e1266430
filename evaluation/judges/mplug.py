"""mPLUG-large for visual questions, the judge of DPG-Bench, in plain PyTorch.

Li et al. 2022, arXiv 2205.12005; the published weights are ModelScope's
damo/mplug_visual-question-answering_coco_large_en. A picture goes through CLIP, a linear layer and a LayerNorm; a
question through 6 layers of BERT; 6 fusion layers join them; a decoder of 12 layers writes the answer.

Shapes: P patches and the class token, T tokens of a question, D width, K beams, V vocabulary.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from evaluation.contract import Backend, ImageArray
from evaluation.judges.mplug_layers import ClipTower, FusionEncoder
from evaluation.judges.mplug_loading import (
    VOCABULARY,
    WEIGHTS,
    MPlugSizes,
    digest_of,
    fill,
    is_published,
    read_sizes,
    read_weights,
)
from pocketdit.errors import UserError

START, END = 101, 102  # [CLS] and [SEP] of BERT's vocabulary

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, of RGB in [0, 1]
_LONGEST_QUESTION = 25  # tokens, both marks included
_ALPHA = 0.6  # of the length penalty
_NEVER = -1e20


def beam_search(
    next_logits: Callable[[Tensor], Tensor], beams: int, least: int, most: int, start: int = START, end: int = END
) -> list[int]:
    """The tokens after ``start`` of the best sequence, its ``end`` included where it has one.

    ``next_logits``: sequences (K, T), each beginning with ``start``, to logits of their next token (K, V). A sequence
    of n tokens scores its log probability over ((5 + n) / 6)^0.6 (Wu et al. 2016, arXiv 1609.08144, Eq. 14, with n
    tokens after ``start``). ``end`` cannot be among the first ``least`` tokens, and ``most`` are written at most.

    As published: the search stops when the best of the beams has ended, and a beam that ended without being the best
    is kept as a candidate, but goes on being extended as well.
    """
    alive = torch.full((beams, 1), start)
    # All beams begin alike: only one of them counts in the first step.
    totals = torch.tensor([0.0] + [float("-inf")] * (beams - 1))
    candidates: list[tuple[float, list[int]]] = []
    for step in range(most):
        log_probabilities = next_logits(alive).float().log_softmax(dim=-1).cpu()
        if step < least:
            log_probabilities[:, end] = _NEVER
        penalty = ((5 + step + 1) / 6) ** _ALPHA
        scores = (log_probabilities + totals[:, None]) / penalty
        best, places = scores.flatten().topk(beams)
        totals = best * penalty
        tokens = places % scores.shape[1]
        alive = torch.cat([alive[places // scores.shape[1]], tokens[:, None]], dim=1)
        stops = bool(tokens[0] == end) or step + 1 == most
        ended = [i for i in range(beams) if stops or tokens[i] == end]
        candidates += [(float(best[i]), alive[i, 1:].tolist()) for i in ended]
        if stops:
            break
    return max(candidates, key=lambda candidate: candidate[0])[1]


class MPlug(nn.Module):
    """The network. Its tensors have the published names."""

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
            {"visual": ClipTower(sizes.picture, sizes.patch, sizes.visual_width, sizes.visual_layers)}
        )
        self.visn_fc = nn.Linear(sizes.visual_width, sizes.width)
        self.visn_layer_norm = nn.LayerNorm(sizes.width, eps=1e-12)
        self.text_encoder = BertModel(
            BertConfig(**config, num_hidden_layers=sizes.text_layers), add_pooling_layer=False
        )
        self.fusion_encoder = FusionEncoder(
            sizes.width, sizes.heads, sizes.inner, sizes.eps, sizes.fusion_first, sizes.fusion_layers, sizes.stride
        )
        # Untied, so that the file's own output layer is used whether or not it is the same as its embedding.
        self.text_decoder = BertLMHeadModel(
            BertConfig(
                **config,
                num_hidden_layers=sizes.decoder_layers,
                is_decoder=True,
                add_cross_attention=True,
                tie_word_embeddings=False,
            )
        )

    def see(self, pixels: Tensor) -> Tensor:
        """Normalised pictures (1, 3, side, side) -> (1, P, D)."""
        return cast(Tensor, self.visn_layer_norm(self.visn_fc(self.visual_encoder["visual"](pixels))))

    def read(self, picture: Tensor, question: Tensor) -> Tensor:
        """A picture (1, P, D) and a question's tokens (1, T), without padding -> both, joined (1, P + T, D)."""
        text = self.text_encoder(input_ids=question).last_hidden_state
        return cast(Tensor, self.fusion_encoder(text, picture))

    def next_logits(self, states: Tensor, answers: Tensor) -> Tensor:
        """What was read (1, P + T, D) and answers so far (K, n) -> logits of the next token (K, V)."""
        output = self.text_decoder(
            input_ids=answers, encoder_hidden_states=states.expand(len(answers), -1, -1), use_cache=False
        )
        return cast(Tensor, output.logits[:, -1])


class MPlugAnswerer:
    """Answers questions in the words of mPLUG-large (a ``QuestionAnswerer``).

    ``folder``: as ModelScope publishes it, with pytorch_model.bin, config.yaml, config_bert.json and vocab.txt.
    ``sha256``: of pytorch_model.bin as the source states it. With it, the file must be that very one. Without, the
    weights count as the published ones where their sizes are the published ones' and the folder has the published
    name, which is a matter of trust; ``backend.version`` has the file's own sha256 either way. Weights that are not
    the published ones are named "mplug-vqa (folder)", and DPG-Bench's result then says so.

    Pictures are squashed to 504x504 (bicubic); questions are put in lower case and cut at 25 tokens.

    Raises:
        UserError: a file is missing, not of this model, or has another sha256.
    """

    def __init__(self, folder: Path, sha256: str | None = None, device: str = "cpu") -> None:
        from transformers import BertTokenizer

        folder = Path(folder)
        self.sizes = read_sizes(folder)
        path = folder / WEIGHTS
        digest = digest_of(path)
        if sha256 is not None and digest != sha256.lower():
            raise UserError(f"{path}: its sha256 is {digest}, not {sha256}; download it again, or correct the sha256")
        if not (folder / VOCABULARY).is_file():
            raise UserError(f"{folder / VOCABULARY}: no such file; it comes with the weights")
        self.tokenizer = BertTokenizer.from_pretrained(str(folder), local_files_only=True, do_lower_case=True)
        model = MPlug(self.sizes)
        fill(model, read_weights(path), self.sizes, path)
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        name = folder.resolve().name
        published = is_published(self.sizes, name, digest, sha256)
        self.backend = Backend(
            "mplug-large" if published else f"mplug-vqa ({name})",
            f"sha256 {digest[:16]}, torch {torch.__version__}",
            ("dpg",) if published else (),
        )

    def answers(self, picture: ImageArray, questions: Sequence[str]) -> list[str]:
        """The answer to each question, by beam search."""
        sizes = self.sizes
        return [
            self.tokenizer.decode(
                beam_search(
                    lambda tokens, states=states: self._next_logits(states, tokens),  # type: ignore[misc]
                    sizes.beams,
                    sizes.least,
                    sizes.most,
                ),
                skip_special_tokens=True,
            )
            for states in self._read(picture, questions)
        ]

    def yes_probabilities(self, picture: ImageArray, questions: Sequence[str]) -> list[float]:
        """p(yes) / (p(yes) + p(no)) of each answer's first token."""
        words = self.tokenizer.convert_tokens_to_ids(["yes", "no"])
        start = torch.tensor([[START]])
        return [
            float(self._next_logits(states, start)[0, words].softmax(dim=-1)[0])
            for states in self._read(picture, questions)
        ]

    @torch.inference_mode()
    def _read(self, picture: ImageArray, questions: Sequence[str]) -> list[Tensor]:
        with torch.autocast(self.device.type, enabled=False):
            seen = self.model.see(preprocess(picture, self.sizes.picture).to(self.device))
            return [self.model.read(seen, self._tokens(question)) for question in questions]

    def _tokens(self, question: str) -> Tensor:
        found = self.tokenizer(question, truncation=True, max_length=_LONGEST_QUESTION, return_tensors="pt")
        return cast(Tensor, found.input_ids.to(self.device))

    @torch.inference_mode()
    def _next_logits(self, states: Tensor, tokens: Tensor) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            return self.model.next_logits(states, tokens.to(self.device))


def preprocess(picture: ImageArray, side: int) -> Tensor:
    """RGB uint8 (H, W, 3) -> (1, 3, side, side), squashed without keeping the ratio, with CLIP's mean and std."""
    squashed = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    values = (np.asarray(squashed, dtype=np.float32) / 255 - np.asarray(_MEAN, np.float32)) / np.asarray(
        _STD, np.float32
    )
    return torch.from_numpy(values).permute(2, 0, 1)[None]
