"""Answers questions about images with BLIP (Li et al. 2022, arXiv 2201.12086)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from evaluation.assets import Asset
from evaluation.contract import ImageArray
from evaluation.judges.transformers_folder import folder_backend, load_config, load_model
from pocketdit.encoders.checkpoints import explain_load_errors

_HUB = "https://huggingface.co/Salesforce/blip-vqa-capfilt-large/resolve/main"
_DESCRIPTION = "BLIP for visual question answering"


class BlipAnswerer:
    """Answers questions with a BLIP model in transformers' format, such as Salesforce/blip-vqa-capfilt-large.

    Questions are encoded as in BLIP's own code, not as in transformers' example: they begin with [ENC] instead of
    [CLS] and are truncated to 35 tokens. Images are resized to the size in the folder's processor configuration
    (384x384; BLIP's own code, and thus T2I-CompBench, uses 480x480), ignoring their aspect ratio. BLIP is not
    DPG-Bench's published judge (see ``mplug``), so the names of results include the model's name.

    Args:
        path: Folder in transformers' format, with weights in safetensors.
        name: Name of the judge in results; None uses the folder's name.
        device: Device to run on.

    Raises:
        UserError: The folder is missing or incomplete, or contains a different model.
    """

    max_text_tokens = 35  # BLIP's own limit for questions
    assets = tuple(
        Asset("path", name, f"{_HUB}/{name}", "", size)
        for name, size in (
            ("config.json", 5_000),
            ("preprocessor_config.json", 500),
            ("tokenizer_config.json", 600),
            ("tokenizer.json", 711_000),
            ("vocab.txt", 232_000),
            ("special_tokens_map.json", 200),
            ("model.safetensors", 1_540_000_000),
        )
    )

    def __init__(self, path: Path, name: str | None = None, device: str = "cpu") -> None:
        from transformers import BertTokenizer, BlipForQuestionAnswering, BlipImageProcessorPil

        config = load_config(path, _DESCRIPTION, "blip")
        self.model = load_model(BlipForQuestionAnswering, path, _DESCRIPTION, "float32", device)
        with explain_load_errors(f"the processor of {_DESCRIPTION}", str(path)):
            self.tokenizer = BertTokenizer.from_pretrained(str(path), local_files_only=True)
            self.image_processor = BlipImageProcessorPil.from_pretrained(str(path), local_files_only=True)
        self.text_config = config.text_config
        self.device = torch.device(device)
        self.backend = folder_backend(path, name)

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of questions with more tokens than the model reads."""
        return sum(len(self.tokenizer(text).input_ids) > self.max_text_tokens for text in texts)

    def answers(self, image: ImageArray, questions: Sequence[str]) -> list[str]:
        """Return the answer to each question, using beam search with 3 beams and 1 to 10 tokens as in BLIP's code."""
        answers = [
            self.model.text_decoder.generate(
                input_ids=self._start(),
                encoder_hidden_states=states,
                encoder_attention_mask=_ones(states),
                num_beams=3,
                min_length=1,
                max_length=10,
                do_sample=False,
                eos_token_id=self.text_config.sep_token_id,
                pad_token_id=self.text_config.pad_token_id,
            )[0]
            for states in self._encode(image, questions)
        ]
        return [self.tokenizer.decode(tokens, skip_special_tokens=True).strip().lower() for tokens in answers]

    @torch.inference_mode()
    def yes_probabilities(self, image: ImageArray, questions: Sequence[str]) -> list[float]:
        """Return p(yes) / (p(yes) + p(no)) for each answer's first token, as in T2I-CompBench, but not rounded."""
        yes_and_no = self.tokenizer.convert_tokens_to_ids(["yes", "no"])
        return [
            float(
                self.model.text_decoder(
                    input_ids=self._start(), encoder_hidden_states=states, encoder_attention_mask=_ones(states)
                )
                .logits[0, -1, yes_and_no]
                .softmax(dim=-1)[0]
            )
            for states in self._encode(image, questions)
        ]

    def _start(self) -> Tensor:
        return torch.tensor([[self.text_config.bos_token_id]], device=self.device)

    @torch.inference_mode()
    def _encode(self, image: ImageArray, questions: Sequence[str]) -> list[Tensor]:
        """Return the states (1, T, D) of each question after cross-attention to the image.

        Questions are encoded one at a time to avoid padding.
        """
        pixels = self.image_processor(Image.fromarray(image), return_tensors="pt").pixel_values.to(self.device)
        image_states = self.model.vision_model(pixel_values=pixels).last_hidden_state
        states = []
        for question in questions:
            tokens = self.tokenizer(
                question, truncation=True, max_length=self.max_text_tokens, return_tensors="pt"
            ).input_ids
            # transformers' tokenizer lacks BLIP's special tokens. [DEC], with which answers begin, has the id of the
            # BOS token, and [ENC] has the next id.
            tokens[:, 0] = self.text_config.bos_token_id + 1
            tokens = tokens.to(self.device)
            output = self.model.text_encoder(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                encoder_hidden_states=image_states,
                encoder_attention_mask=_ones(image_states),
            )
            states.append(output.last_hidden_state)
        return states


def _ones(states: Tensor) -> Tensor:
    """Return an attention mask (B, T) for states (B, T, D) without padding."""
    return torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
