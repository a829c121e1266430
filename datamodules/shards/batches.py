"""Fetches batches from shards: reads and decodes samples, chooses captions, and skips broken samples."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.shards.buckets import Bucket
from datamodules.shards.decode import decode_image, decode_tensors, read_latent
from datamodules.shards.index import SplitIndex
from datamodules.shards.order import BatchRequest
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import DatasetInfo, Sample, reason_of
from datamodules.shards.stateless_random import Purpose, uniform
from datamodules.shards.stored_text import pad_text, read_text
from datamodules.shards.text_layout import BLANK
from pocketdit.config.shell import command_line, operand
from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import RunError
from pocketdit.names import one_line

Batch = dict[str, Any]
CaptionChoice = Literal["random", "short", "long"] | float


class ShardBatches(Dataset["Batch | RunError"]):
    """A data set whose items are whole batches: ``batches[request]`` is a pure function of the request.

    A batch is a dictionary with these entries:

    - "images", uint8 (B, 3, H, W), or "latents", float32 (B, C, h, w);
    - "captions", B strings;
    - "text", "teacher_text", and "teacher_blank" (the empty caption, with B = 1), if the data set stores them: one
      ``TextTokens`` per encoder, in the stored type;
    - "ids", int64 (B,), the rows of the index;
    - "keys", B strings, the samples' keys in their shards;
    - "skipped", a description of each broken sample.

    If all samples of a batch are broken, the next rows of the same bucket replace them, because every rank must have a
    batch for each step. If the whole bucket is broken, rows of the next buckets replace them. If no sample of the split
    is usable, the item is a ``RunError``, which the loader raises.

    Args:
        info: The contents of dataset.json, which describe stored latents and text embeddings.
        index: The split's index.
        buckets: The image sizes.
        bucket_of: (N,) index of each row's bucket in ``buckets``.
        seed: Seed of the random captions, crops, and flips.
        caption: "random" (any caption), "short" (the first), "long" (any other), or the probability of the short
            caption. The probability applies to whole batches: the captions of a batch are all short or all long.
        crop: Where to crop images whose aspect ratio differs from that of their bucket.
        flip: Mirror half of the images. Captions that mention left or right become wrong.
    """

    def __init__(
        self,
        info: DatasetInfo,
        index: SplitIndex,
        buckets: Sequence[Bucket],
        bucket_of: NDArray[np.integer],
        *,
        seed: int = 0,
        caption: CaptionChoice = "random",
        crop: Literal["center", "random"] = "center",
        flip: bool = False,
    ) -> None:
        self._reader = ShardReader(index)
        self._autoencoder, self._layouts = info.autoencoder, info.text_layouts
        self._buckets, self._bucket_of = buckets, bucket_of
        self._seed, self._caption, self._crop, self._flip = seed, caption, crop, flip

    def __getitem__(self, request: BatchRequest) -> "Batch | RunError":
        skipped: list[str] = []
        for rows in self._candidates(request.rows):
            draws = self._random_draws(request.epoch, rows)
            fetched = [self._fetch(int(row), draw, skipped) for row, draw in zip(rows, draws, strict=True)]
            samples = [sample for sample in fetched if sample is not None]
            if samples:
                return self._collate(samples, skipped)
        return RunError(self._nothing_usable(skipped))

    def _nothing_usable(self, skipped: Sequence[str]) -> str:
        index = self._reader.index
        # `lightning data validate` reads only local folders.
        place = "FOLDER" if index.address else operand(index.dataset)
        check = "copy the data set to a folder, and check it" if index.address else "check the data set"
        return (
            f"{index.dataset}/{index.folder.name}: all {len(skipped)} samples are broken (the first: {skipped[0]}); "
            f"{check} with: {command_line('data', 'validate', place)}"
        )

    def _candidates(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Yield the given rows and then replacements: the other rows of their bucket, and the rows of other buckets.

        Rows that are yielded together always have the same bucket. The replacements in each bucket start after the last
        given row and wrap around, and the buckets start with the bucket of the given rows and wrap around.
        """
        yield rows
        first = int(self._bucket_of[rows[0]])
        for bucket in np.roll(np.arange(len(self._buckets)), -first):
            others = np.setdiff1d(np.flatnonzero(self._bucket_of == bucket), rows)
            others = np.roll(others, -int(np.searchsorted(others, rows[-1])))
            for start in range(0, len(others), len(rows)):
                yield others[start : start + len(rows)]

    def _random_draws(self, epoch: int, rows: NDArray[np.int64]) -> list["_Draws"]:
        # One caption length per batch, so that short captions are not padded to the length of a long caption.
        caption_length = float(uniform(Purpose.CAPTION_LENGTH, self._seed, epoch, rows[:1])[0])
        purposes = (Purpose.CAPTION, Purpose.CROP_X, Purpose.CROP_Y, Purpose.FLIP)
        columns = [uniform(purpose, self._seed, epoch, rows).tolist() for purpose in purposes]
        return [_Draws(caption_length, *values) for values in zip(*columns, strict=True)]

    def _fetch(self, row: int, draws: "_Draws", skipped: list[str]) -> "_Fetched | None":
        index = self._reader.index
        name = f"row {row}"
        try:
            raw = self._reader.read_members(row)
            name = f"sample {raw.key}"
            sample = self._reader.parse(row, raw)
            caption = choose_caption(len(sample.captions), self._caption, draws.caption_length, draws.caption)
            content = self._encoded(sample, caption) if index.kind == "latent" else self._image(sample, row, draws)
        except Exception as error:  # a broken sample can raise any exception, but must not end the run
            skipped.append(one_line(f"{index.shard_path(row)}: {name}: {reason_of(error)}"))
            return None
        return _Fetched(row, raw.key, sample.captions[caption], *content)

    def _image(self, sample: Sample, row: int, draws: "_Draws") -> "_Content":
        bucket = self._buckets[self._bucket_of[row]]
        crop_x, crop_y = (draws.crop_x, draws.crop_y) if self._crop == "random" else (0.5, 0.5)
        flip = self._flip and draws.flip < 0.5
        return decode_image(sample, bucket, crop_x=crop_x, crop_y=crop_y, flip=flip), {}

    def _encoded(self, sample: Sample, caption: int) -> "_Content":
        assert self._autoencoder is not None
        tensors = decode_tensors(sample)
        text = {
            "text": read_text(tensors, "text", self._layouts["text"], caption),
            "teacher_text": read_text(tensors, "teacher", self._layouts["teacher"], caption),
            "teacher_blank": read_text(tensors, "teacher", self._layouts["teacher"], BLANK),
        }
        return read_latent(tensors, sample, self._autoencoder), text

    def _collate(self, samples: list["_Fetched"], skipped: list[str]) -> Batch:
        name = "latents" if self._reader.index.kind == "latent" else "images"
        text = {key: self._pad(key, samples) for key in samples[0].text if samples[0].text[key]}
        return {
            name: torch.stack([sample.tensor for sample in samples]),
            "captions": [sample.caption for sample in samples],
            "ids": torch.tensor([sample.row for sample in samples], dtype=torch.int64),
            "keys": [sample.key for sample in samples],
            "skipped": skipped,
            **text,
        }

    def _pad(self, key: str, samples: list["_Fetched"]) -> list[TextTokens]:
        layouts = self._layouts["text" if key == "text" else "teacher"]
        rows = samples[:1] if key == "teacher_blank" else samples  # the empty caption is the same in all samples
        return [pad_text([sample.text[key][i] for sample in rows], layout) for i, layout in enumerate(layouts)]


_Content = tuple[Tensor, dict[str, list[Tensor]]]


class _Fetched(NamedTuple):
    """A fetched sample: its image or latent, and its stored text embeddings under their keys in the batch."""

    row: int
    key: str
    caption: str
    tensor: Tensor
    text: dict[str, list[Tensor]]


class _Draws(NamedTuple):
    """A sample's random numbers in one epoch, uniform in [0, 1). All samples of a batch share ``caption_length``."""

    caption_length: float
    caption: float
    crop_x: float
    crop_y: float
    flip: float


def usable_captions(captions: Sequence[str], choice: CaptionChoice) -> Sequence[str]:
    """Return the captions of a sample that ``choose_caption`` may choose."""
    if choice in ("short", 1):
        return captions[:1]
    return (captions[1:] or captions) if choice in ("long", 0) else captions


def choose_caption(count: int, choice: CaptionChoice, length_draw: float, caption_draw: float) -> int:
    """Choose one of a sample's captions, and return its index. If there is only one caption, it is always chosen.

    Args:
        count: Number of captions. The short caption comes first, followed by the longer captions.
        choice: See ``ShardBatches``.
        length_draw: Number in [0, 1) that decides between the short caption and the longer captions.
        caption_draw: Number in [0, 1) that selects one of several captions.
    """
    if choice == "random":
        return int(caption_draw * count)
    short_probability = {"short": 1.0, "long": 0.0}[choice] if isinstance(choice, str) else choice
    if length_draw < short_probability or count == 1:
        return 0
    return 1 + int(caption_draw * (count - 1))
