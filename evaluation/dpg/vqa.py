"""Question answerers from transformers: BLIP and Qwen2.5-VL (both ``QuestionAnswerer``).

Neither is the judge that DPG-Bench publishes (``mplug``): their results carry the model's name.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from PIL import Image
from torch import Tensor

from evaluation.contract import Backend, Picture
from pocketdit.encoders.checkpoints import loading, require_complete
from pocketdit.errors import UserError
from pocketdit.files import sha256_of

DType = Literal["float32", "bfloat16"]


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
        config = _config_of(path, what, "blip")
        self.model = _load(BlipForQuestionAnswering, path, what, "float32", device)
        with loading(f"the processor of {what}", str(path)):
            self.tokenizer = BertTokenizer.from_pretrained(str(path), local_files_only=True)
            self.pictures = BlipImageProcessorPil.from_pretrained(str(path), local_files_only=True)
        self.text = config.text_config
        self.device = torch.device(device)
        self.backend = _backend(path, name)

    def answers(self, picture: Picture, questions: Sequence[str]) -> list[str]:
        """The answer to each question, by beam search as in BLIP's own code: 3 beams, 1 to 10 tokens."""
        written = [
            self.model.text_decoder.generate(
                input_ids=self._start(),
                encoder_hidden_states=states,
                encoder_attention_mask=_ones(states),
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
    def yes_probabilities(self, picture: Picture, questions: Sequence[str]) -> list[float]:
        """p(yes) / (p(yes) + p(no)) of each answer's first token, which is what T2I-CompBench rates by; not rounded."""
        words = self.tokenizer.convert_tokens_to_ids(["yes", "no"])
        return [
            float(
                self.model.text_decoder(
                    input_ids=self._start(), encoder_hidden_states=states, encoder_attention_mask=_ones(states)
                )
                .logits[0, -1, words]
                .softmax(dim=-1)[0]
            )
            for states in self._read(picture, questions)
        ]

    def _start(self) -> Tensor:
        return torch.tensor([[self.text.bos_token_id]], device=self.device)

    @torch.inference_mode()
    def _read(self, picture: Picture, questions: Sequence[str]) -> list[Tensor]:
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
                encoder_attention_mask=_ones(seen),
            )
            found.append(states.last_hidden_state)
        return found


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
        self.config = _config_of(path, what, "qwen2_5_vl")
        self.model = _load(Qwen2_5_VLForConditionalGeneration, path, what, dtype, device)
        # Not their common processor, which wants torchvision for films.
        with loading(f"the processor of {what}", str(path)):
            self.tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
            self.pictures = Qwen2VLImageProcessorPil.from_pretrained(str(path), local_files_only=True)
        if not self.tokenizer.chat_template:
            raise UserError(f"{path}: the tokenizer of {what} has no chat template; get the whole folder again")
        self.device, self.instruction, self.most = torch.device(device), instruction, most
        self.backend = _backend(path, name, dtype, instruction)

    @torch.inference_mode()
    def answers(self, picture: Picture, questions: Sequence[str]) -> list[str]:
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
    def yes_probabilities(self, picture: Picture, questions: Sequence[str]) -> list[float]:
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

    def _inputs(self, picture: Picture, questions: Sequence[str]) -> list[dict[str, Tensor]]:
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


def _ones(states: Tensor) -> Tensor:
    return torch.ones(states.shape[:2], dtype=torch.long, device=states.device)


def _config_of(path: Path, what: str, kind: str) -> Any:
    from transformers import AutoConfig

    with loading(what, str(path)):
        config = AutoConfig.from_pretrained(str(path), local_files_only=True)
    if config.model_type != kind:
        raise UserError(f"{path}: holds a model of type {config.model_type}, not {what} ({kind})")
    return config


def _load(loader: Any, path: Path, what: str, dtype: DType, device: str) -> Any:
    with loading(what, str(path)):
        model, report = loader.from_pretrained(
            str(path),
            local_files_only=True,
            use_safetensors=True,
            dtype=getattr(torch, dtype),
            output_loading_info=True,
        )
    require_complete(what, str(path), report["missing_keys"])
    return model.to(device).eval().requires_grad_(False)


def _backend(path: Path, name: str | None, *settings: str) -> Backend:
    from transformers import __version__

    digest = hashlib.sha256()
    for file in sorted(Path(path).glob("*.safetensors")):
        digest.update(bytes.fromhex(sha256_of(file)))
    version = [f"sha256 of the weights' sha256s {digest.hexdigest()[:16]}", f"transformers {__version__}", *settings]
    return Backend(name or cast(str, Path(path).resolve().name), ", ".join(version))
