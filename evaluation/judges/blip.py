"""BLIP answers questions about images."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from evaluation.contract import ImageArray
from evaluation.judges.transformers_folder import backend_of, config_of, load_model, ones
from pocketdit.encoders.checkpoints import explain_load_errors


class BlipAnswerer:
    """BLIP for visual questions (Li et al. 2022, arXiv 2201.12086), such as Salesforce/blip-vqa-capfilt-large.

    ``path``: a folder in transformers' form, weights in safetensors. ``name``: what results call it; the folder's
    name where None.

    Questions are read as by BLIP's own code, not as by transformers' example: they begin with [ENC] instead of [CLS],
    and are cut at 35 tokens. Pictures are squashed to the size that the folder's processor says (384x384; BLIP's own
    code, and T2I-CompBench with it, goes to 480x480).

    Raises:
        UserError: the folder is missing, incomplete, or holds another model.
    """

    def __init__(self, path: Path, name: str | None = None, device: str = "cpu") -> None:
        from transformers import BertTokenizer, BlipForQuestionAnswering, BlipImageProcessorPil

        what = "BLIP for visual questions"
        config = config_of(path, what, "blip")
        self.model = load_model(BlipForQuestionAnswering, path, what, "float32", device)
        with explain_load_errors(f"the processor of {what}", str(path)):
            self.tokenizer = BertTokenizer.from_pretrained(str(path), local_files_only=True)
            self.pictures = BlipImageProcessorPil.from_pretrained(str(path), local_files_only=True)
        self.text = config.text_config
        self.device = torch.device(device)
        self.backend = backend_of(path, name)

    def answers(self, picture: ImageArray, questions: Sequence[str]) -> list[str]:
        """The answer to each question, by beam search as in BLIP's own code: 3 beams, 1 to 10 tokens."""
        written = [
            self.model.text_decoder.generate(
                input_ids=self._start(),
                encoder_hidden_states=states,
                encoder_attention_mask=ones(states),
                num_beams=3,
                min_length=1,
                max_length=10,
                do_sample=False,
                eos_token_id=self.text.sep_token_id,
                pad_token_id=self.text.pad_token_id,
            )[0]
            for states in self._read(picture, questions)
        ]
        return [self.tokenizer.decode(tokens, skip_special_tokens=True).strip().lower() for tokens in written]

    @torch.inference_mode()
    def yes_probabilities(self, picture: ImageArray, questions: Sequence[str]) -> list[float]:
        """p(yes) / (p(yes) + p(no)) of each answer's first token, which is what T2I-CompBench rates by; not rounded."""
        words = self.tokenizer.convert_tokens_to_ids(["yes", "no"])
        return [
            float(
                self.model.text_decoder(
                    input_ids=self._start(), encoder_hidden_states=states, encoder_attention_mask=ones(states)
                )
                .logits[0, -1, words]
                .softmax(dim=-1)[0]
            )
            for states in self._read(picture, questions)
        ]

    def _start(self) -> Tensor:
        return torch.tensor([[self.text.bos_token_id]], device=self.device)

    @torch.inference_mode()
    def _read(self, picture: ImageArray, questions: Sequence[str]) -> list[Tensor]:
        """The states (1, T, D) of each question after it has seen the picture. One at a time, so without padding."""
        pixels = self.pictures(Image.fromarray(picture), return_tensors="pt").pixel_values.to(self.device)
        seen = self.model.vision_model(pixel_values=pixels).last_hidden_state
        found = []
        for question in questions:
            tokens = self.tokenizer(question, truncation=True, max_length=35, return_tensors="pt").input_ids
            # transformers' tokenizer lacks BLIP's two marks: [DEC], which begins answers, and [ENC] after it.
            tokens[:, 0] = self.text.bos_token_id + 1
            tokens = tokens.to(self.device)
            states = self.model.text_encoder(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                encoder_hidden_states=seen,
                encoder_attention_mask=ones(seen),
            )
            found.append(states.last_hidden_state)
        return found
