"""Qwen2.5-VL answers questions about images."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from evaluation.contract import ImageArray
from evaluation.judges.transformers_folder import DType, backend_of, config_of, load_model
from pocketdit.encoders.checkpoints import explain_load_errors
from pocketdit.errors import UserError


class QwenVLAnswerer:
    """Qwen2.5-VL (Bai et al. 2025, arXiv 2502.13923), such as Qwen/Qwen2.5-VL-7B-Instruct.

    ``path``: a folder in transformers' form, weights in safetensors. ``name``: what results call it; the folder's
    name where None. ``instruction``: put after every question, on a line of its own. Answers are in lower case
    without a full stop at the end; decoding is greedy, ``most`` tokens long at most.

    Raises:
        UserError: the folder is missing, incomplete, or holds another model.
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

        what = "Qwen2.5-VL"
        self.config = config_of(path, what, "qwen2_5_vl")
        self.model = load_model(Qwen2_5_VLForConditionalGeneration, path, what, dtype, device)
        # Not their common processor, which wants torchvision for films.
        with explain_load_errors(f"the processor of {what}", str(path)):
            self.tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
            self.pictures = Qwen2VLImageProcessorPil.from_pretrained(str(path), local_files_only=True)
        if not self.tokenizer.chat_template:
            raise UserError(f"{path}: the tokenizer of {what} has no chat template; get the whole folder again")
        self.device, self.instruction, self.most = torch.device(device), instruction, most
        self.backend = backend_of(path, name, dtype, instruction)

    @torch.inference_mode()
    def answers(self, picture: ImageArray, questions: Sequence[str]) -> list[str]:
        """The answer to each question."""
        found = []
        for inputs in self._inputs(picture, questions):
            # What the checkpoint says of sampling is for conversation; answers must not vary.
            written = self.model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                repetition_penalty=1.0,
                max_new_tokens=self.most,
            )
            words = self.tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            found.append(words.strip().rstrip(".").lower())
        return found

    @torch.inference_mode()
    def yes_probabilities(self, picture: ImageArray, questions: Sequence[str]) -> list[float]:
        """p(yes) / (p(yes) + p(no)) of each answer's first token, over the spellings that are one token."""
        yes, no = (self._spellings(word) for word in ("yes", "no"))
        found = []
        for inputs in self._inputs(picture, questions):
            logits = self.model(**inputs, use_cache=False, logits_to_keep=1).logits[0, -1].float()
            found.append(float(torch.sigmoid(logits[yes].logsumexp(0) - logits[no].logsumexp(0))))
        return found

    def _spellings(self, word: str) -> list[int]:
        spelled = [before + form for before in ("", " ") for form in (word, word.capitalize(), word.upper())]
        tokens = [self.tokenizer.encode(form, add_special_tokens=False) for form in spelled]
        single = sorted({ids[0] for ids in tokens if len(ids) == 1})
        if not single:
            raise UserError(f"the tokenizer of {self.backend.name} has no token for {word!r}; it is not Qwen2.5-VL's")
        return single

    def _inputs(self, picture: ImageArray, questions: Sequence[str]) -> list[dict[str, Tensor]]:
        seen = self.pictures(Image.fromarray(picture), return_tensors="pt")
        mark = self.tokenizer.convert_ids_to_tokens(self.config.image_token_id)
        count = int(seen.image_grid_thw[0].prod()) // self.pictures.merge_size**2
        found = []
        for question in questions:
            content = [{"type": "image"}, {"type": "text", "text": f"{question}\n{self.instruction}"}]
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            tokens = self.tokenizer(text.replace(mark, mark * count, 1), return_tensors="pt").input_ids
            inputs = {
                "input_ids": tokens,
                "attention_mask": torch.ones_like(tokens),
                # Where the picture is: positions in it count along its rows and columns.
                "mm_token_type_ids": (tokens == self.config.image_token_id).long(),
                "pixel_values": seen.pixel_values.to(self.model.dtype),
                "image_grid_thw": seen.image_grid_thw,
            }
            found.append({key: value.to(self.device) for key, value in inputs.items()})
        return found
