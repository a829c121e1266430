"""Answers questions about images with Qwen2.5-VL (arXiv 2502.13923) or Qwen3-VL (arXiv 2511.21631)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from evaluation.contract import ImageArray
from evaluation.judges.transformers_folder import DType, folder_backend, load_config, load_model
from pocketdit.encoders.checkpoints import explain_load_errors
from pocketdit.errors import UserError

_DESCRIPTION = "Qwen2.5-VL or Qwen3-VL"
# The published judge of GenEval 2, and the sizes of its language model and its vision tower.
_PUBLISHED = "Qwen3-VL-8B-Instruct"
_PUBLISHED_SIZES = ("qwen3_vl", 4096, 36, 1152, 27)


class QwenVLAnswerer:
    """Answers questions with a Qwen2.5-VL or Qwen3-VL model in transformers' format.

    Decoding is greedy. Answers are in lower case, without a final period. GenEval 2's published judge,
    Qwen/Qwen3-VL-8B-Instruct, is recognized by the sizes of its layers and the name of its folder. The version of
    ``backend`` contains a hash of the weights. Unless the model is the published judge of the benchmark, the names of
    results include the name of the judge.

    Args:
        path: Folder in transformers' format, with weights in safetensors.
        name: Name of the judge in results; None uses the folder's name.
        device: Device to run on.
        dtype: Precision of the weights.
        instruction: Text that is appended to every question on a separate line, except in ``answer_probabilities``.
        most: Maximum number of tokens in an answer.

    Raises:
        UserError: The folder is missing or incomplete, or contains a different model.
    """

    def __init__(
        self,
        path: Path,
        name: str | None = None,
        device: str = "cpu",
        dtype: DType = "bfloat16",
        instruction: str = "Answer with one word.",
        most: int = 16,
    ) -> None:
        from transformers import (
            AutoTokenizer,
            Qwen2_5_VLForConditionalGeneration,
            Qwen2VLImageProcessorPil,
            Qwen3VLForConditionalGeneration,
        )

        classes = {"qwen2_5_vl": Qwen2_5_VLForConditionalGeneration, "qwen3_vl": Qwen3VLForConditionalGeneration}
        self.config = load_config(path, _DESCRIPTION, *classes)
        self.model = load_model(classes[self.config.model_type], path, _DESCRIPTION, dtype, device)
        # The combined processor is not used, because it requires torchvision for videos.
        with explain_load_errors(f"the processor of {_DESCRIPTION}", str(path)):
            self.tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
            self.image_processor = Qwen2VLImageProcessorPil.from_pretrained(str(path), local_files_only=True)
        if not self.tokenizer.chat_template:
            raise UserError(f"{path}: the tokenizer has no chat template; get the complete folder again")
        self.device, self.instruction, self.most = torch.device(device), instruction, most
        published = ("geneval2",) if is_published(self.config, Path(path).resolve().name) else ()
        self.backend = folder_backend(path, name, dtype, instruction, published_for=published)

    @torch.inference_mode()
    def answers(self, image: ImageArray, questions: Sequence[str]) -> list[str]:
        """Return the answer to each question."""
        answers = []
        for inputs in self._inputs(image, questions):
            # These arguments override the checkpoint's sampling settings, which are meant for chats, so that answers
            # are deterministic.
            output = self.model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                repetition_penalty=1.0,
                max_new_tokens=self.most,
            )
            text = self.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            answers.append(text.strip().rstrip(".").lower())
        return answers

    @torch.inference_mode()
    def yes_probabilities(self, image: ImageArray, questions: Sequence[str]) -> list[float]:
        """Return p(yes) / (p(yes) + p(no)) for each answer's first token, adding up all single-token spellings."""
        yes, no = (self._spellings(word) for word in ("yes", "no"))
        probabilities = []
        for inputs in self._inputs(image, questions):
            logits = self._first_logits(inputs)
            probabilities.append(float(torch.sigmoid(logits[yes].logsumexp(0) - logits[no].logsumexp(0))))
        return probabilities

    @torch.inference_mode()
    def answer_probabilities(
        self, image: ImageArray, questions: Sequence[str], spellings: Sequence[Sequence[str]]
    ) -> list[float]:
        """Return, for each question, the probability that the answer starts with the first token of a given spelling.

        The questions are asked as they are, without the instruction.
        """
        probabilities = []
        for inputs, forms in zip(self._encode(image, questions), spellings, strict=True):
            tokens = sorted({self.tokenizer.encode(form, add_special_tokens=False)[0] for form in forms})
            probabilities.append(float(self._first_logits(inputs).softmax(0)[tokens].sum()))
        return probabilities

    def _first_logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the logits (V,) of the answer's first token."""
        logits: Tensor = self.model(**inputs, use_cache=False, logits_to_keep=1).logits[0, -1].float()
        return logits

    def _inputs(self, image: ImageArray, questions: Sequence[str]) -> list[dict[str, Tensor]]:
        """Return the model's inputs for each question, with the instruction."""
        return self._encode(image, [f"{question}\n{self.instruction}" for question in questions])

    def _spellings(self, word: str) -> list[int]:
        """Return the tokens of all spellings of a word that consist of a single token."""
        forms = [space + form for space in ("", " ") for form in (word, word.capitalize(), word.upper())]
        tokens = [self.tokenizer.encode(form, add_special_tokens=False) for form in forms]
        single = sorted({ids[0] for ids in tokens if len(ids) == 1})
        if not single:
            raise UserError(
                f"the tokenizer of {self.backend.name} has no token for {word!r}, so it is not Qwen's; get the "
                "complete folder again"
            )
        return single

    def _encode(self, image: ImageArray, texts: Sequence[str]) -> list[dict[str, Tensor]]:
        """Return the model's inputs for each text, with the image before the text."""
        patches = self.image_processor(Image.fromarray(image), return_tensors="pt")
        placeholder = self.tokenizer.convert_ids_to_tokens(self.config.image_token_id)
        count = int(patches.image_grid_thw[0].prod()) // self.image_processor.merge_size**2
        inputs = []
        for text in texts:
            content = [{"type": "image"}, {"type": "text", "text": text}]
            chat = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            tokens = self.tokenizer(chat.replace(placeholder, placeholder * count, 1), return_tensors="pt").input_ids
            tensors = {
                "input_ids": tokens,
                "attention_mask": torch.ones_like(tokens),
                # This marks the image's tokens, whose positions are two-dimensional (row and column).
                "mm_token_type_ids": (tokens == self.config.image_token_id).long(),
                "pixel_values": patches.pixel_values.to(self.model.dtype),
                "image_grid_thw": patches.image_grid_thw,
            }
            inputs.append({key: value.to(self.device) for key, value in tensors.items()})
        return inputs


def is_published(config: Any, folder_name: str) -> bool:
    """Return whether a model appears to be GenEval 2's judge. A folder's name alone proves nothing."""
    text, vision = config.text_config, config.vision_config
    sizes = (config.model_type, text.hidden_size, text.num_hidden_layers, vision.hidden_size, vision.depth)
    return folder_name == _PUBLISHED and sizes == _PUBLISHED_SIZES
