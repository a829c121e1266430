"""Answers questions about images with Qwen2.5-VL (Bai et al. 2025, arXiv 2502.13923)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from evaluation.contract import ImageArray
from evaluation.judges.transformers_folder import DType, folder_backend, load_config, load_model
from pocketdit.encoders.checkpoints import explain_load_errors
from pocketdit.errors import UserError

_DESCRIPTION = "Qwen2.5-VL"


class QwenVLAnswerer:
    """Answers questions with a Qwen2.5-VL model in transformers' format, such as Qwen/Qwen2.5-VL-7B-Instruct.

    Decoding is greedy. Answers are in lower case, without a final period. This is not DPG-Bench's published judge
    (see ``mplug``), so the names of its results include the model's name.

    Args:
        path: Folder in transformers' format, with weights in safetensors.
        name: Name of the judge in results; None uses the folder's name.
        device: Device to run on.
        dtype: Precision of the weights.
        instruction: Text that is appended to every question on a separate line.
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
        from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

        self.config = load_config(path, _DESCRIPTION, "qwen2_5_vl")
        self.model = load_model(Qwen2_5_VLForConditionalGeneration, path, _DESCRIPTION, dtype, device)
        # The combined processor is not used, because it requires torchvision for videos.
        with explain_load_errors(f"the processor of {_DESCRIPTION}", str(path)):
            self.tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
            self.image_processor = Qwen2VLImageProcessorPil.from_pretrained(str(path), local_files_only=True)
        if not self.tokenizer.chat_template:
            raise UserError(f"{path}: the tokenizer has no chat template; get the complete folder again")
        self.device, self.instruction, self.most = torch.device(device), instruction, most
        self.backend = folder_backend(path, name, dtype, instruction)

    @torch.inference_mode()
    def answers(self, image: ImageArray, questions: Sequence[str]) -> list[str]:
        """Return the answer to each question."""
        answers = []
        for inputs in self._inputs(image, questions):
            # Overrides the checkpoint's sampling settings, which are meant for chats, to make answers deterministic.
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
        """Return p(yes) / (p(yes) + p(no)) for each answer's first token, over all single-token spellings."""
        yes, no = (self._spellings(word) for word in ("yes", "no"))
        probabilities = []
        for inputs in self._inputs(image, questions):
            logits = self.model(**inputs, use_cache=False, logits_to_keep=1).logits[0, -1].float()
            probabilities.append(float(torch.sigmoid(logits[yes].logsumexp(0) - logits[no].logsumexp(0))))
        return probabilities

    def _spellings(self, word: str) -> list[int]:
        """Return the tokens of all spellings of a word that are a single token."""
        forms = [space + form for space in ("", " ") for form in (word, word.capitalize(), word.upper())]
        tokens = [self.tokenizer.encode(form, add_special_tokens=False) for form in forms]
        single = sorted({ids[0] for ids in tokens if len(ids) == 1})
        if not single:
            raise UserError(
                f"{self.backend.name}: its tokenizer has no token for {word!r} and is not Qwen2.5-VL's; get the "
                "complete folder again"
            )
        return single

    def _inputs(self, image: ImageArray, questions: Sequence[str]) -> list[dict[str, Tensor]]:
        """Return the model's inputs for each question."""
        patches = self.image_processor(Image.fromarray(image), return_tensors="pt")
        placeholder = self.tokenizer.convert_ids_to_tokens(self.config.image_token_id)
        count = int(patches.image_grid_thw[0].prod()) // self.image_processor.merge_size**2
        inputs = []
        for question in questions:
            content = [{"type": "image"}, {"type": "text", "text": f"{question}\n{self.instruction}"}]
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            tokens = self.tokenizer(text.replace(placeholder, placeholder * count, 1), return_tensors="pt").input_ids
            tensors = {
                "input_ids": tokens,
                "attention_mask": torch.ones_like(tokens),
                # Marks the image's tokens, whose positions are row and column numbers.
                "mm_token_type_ids": (tokens == self.config.image_token_id).long(),
                "pixel_values": patches.pixel_values.to(self.model.dtype),
                "image_grid_thw": patches.image_grid_thw,
            }
            inputs.append({key: value.to(self.device) for key, value in tensors.items()})
        return inputs
