"""Encodes shards one at a time in a process, with the encoders on that process's device."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from datamodules.encoding.captions import encode_captions, measure_layout
from datamodules.encoding.images import Latent, encode_images
from datamodules.encoding.job import EncodeJob, Task
from datamodules.encoding.unfinished import ShardRecord, UnfinishedDataset
from datamodules.shards.index import SplitIndex
from datamodules.shards.latents import describe_autoencoder
from datamodules.shards.opening import LocalDataset
from datamodules.shards.reader import ShardReader
from datamodules.shards.schema import (
    LATENT_EXTENSION,
    SPLITS,
    Sample,
    Split,
    read_info,
    reason_of,
    serialize_sample,
)
from datamodules.shards.text_layout import BLANK, Group, tensor_name
from pocketdit.config.component import build
from pocketdit.encoders.identity import identify
from pocketdit.errors import RunError
from pocketdit.names import one_line

_RECONSTRUCTIONS = 64  # number of images of a data set whose PSNR is measured; at least one per shard
Progress = Callable[[int], None]


class EncodeWorker:
    """Loads the encoders of a job and encodes shards with them.

    Args:
        job: What to encode, and with which encoders.
    """

    def __init__(self, job: EncodeJob) -> None:
        self.job = job
        source, info = LocalDataset(job.source), read_info(job.source)
        self._indexes: dict[Split, SplitIndex] = {split: source.load_index(split, info) for split in SPLITS}
        self._device = device_of_process()
        self._autoencoder = self._load(job.autoencoder)
        self._encoders = {
            group: [self._load(component) for component in components]
            for group, components in job.text_encoders.items()
        }
        self._layouts = {group: [measure_layout(encoder) for encoder in part] for group, part in self._encoders.items()}
        shards = sum(len(index.shards) for index in self._indexes.values())
        self._reconstructions = min(job.batch_size, -(-_RECONSTRUCTIONS // max(1, shards)))

    def _load(self, component: Any) -> Any:
        encoder = build(component)
        return encoder.to(self._device) if isinstance(encoder, nn.Module) else encoder

    def describe(self) -> dict[str, Any]:
        """Return the source, the encoders, and the settings, which determine the shards at each base size."""
        job = self.job
        return {
            "source": read_info(job.source).fingerprint,
            "shards": {split: index.digest for split, index in self._indexes.items()},
            "autoencoder": {**describe_autoencoder(self._autoencoder, 0, job.buckets), "stored_dtype": job.dtype},
            "text_encoders": {group: self._describe_text(group) for group in self._encoders},
            "batch_size": job.batch_size,
        }

    def _describe_text(self, group: Group) -> list[dict[str, Any]]:
        return [
            {**identify(encoder), **asdict(layout), "stored_dtype": self.job.dtype}
            for encoder, layout in zip(self._encoders[group], self._layouts[group], strict=True)
        ]

    def encode(self, task: Task, progress: Progress) -> None:
        """Encode a shard at the base sizes of a task, and write it to the unfinished data sets.

        Args:
            task: The shard, and the base sizes at which to encode it.
            progress: Function that is called with the number of images processed since its last call.

        Raises:
            RunError: The GPU ran out of memory.
        """
        try:
            with one_thread(self._device):
                self._encode(task, progress)
        except torch.OutOfMemoryError as error:
            raise RunError(f"out of memory; try a smaller --batch-size ({str(error).splitlines()[0]})") from error

    def _encode(self, task: Task, progress: Progress) -> None:
        index, job = self._indexes[task.split], self.job
        samples, skipped = read_shard(index, task.shard)
        captions = list(dict.fromkeys(caption for _, sample in samples for caption in sample.captions))
        text = {group: self._encode_text(group, captions) for group in self._encoders}
        for base_size in task.base_sizes:
            latents: dict[int, Latent] = {}
            problems: dict[int, str] = {}
            for batch in encode_images(
                [sample for _, sample in samples],
                self._autoencoder,
                base_size=base_size,
                shape=job.buckets,
                batch_size=job.batch_size,
                dtype=getattr(torch, job.dtype),
                workers=job.workers,
                reconstructions=self._reconstructions,
            ):
                latents |= batch.latents
                problems |= batch.problems
                progress(len(batch.latents) + len(batch.problems))
            self._write(task, base_size, samples, latents, problems, text, skipped)
            progress(len(skipped))

    def _encode_text(self, group: Group, captions: list[str]) -> dict[str, list[Tensor]]:
        """Return each caption's embeddings from all encoders of a group.

        For the teacher's group, the empty caption is included.
        """
        texts = captions + [""] * (group == "teacher")
        job, parts = self.job, zip(self._encoders[group], self._layouts[group], strict=True)
        dtype = getattr(torch, job.dtype)
        columns = [encode_captions(encoder, layout, texts, job.batch_size, dtype) for encoder, layout in parts]
        return {text: [column[row] for column in columns] for row, text in enumerate(texts)}

    def _write(
        self,
        task: Task,
        base_size: int,
        samples: "list[tuple[str, Sample]]",
        latents: dict[int, Latent],
        problems: dict[int, str],
        text: dict[Group, dict[str, list[Tensor]]],
        skipped: list[str],
    ) -> None:
        tensors = {i: text_tensors(samples[i][1].captions, text) for i in latents}
        problems |= {
            i: "a text embedding is not finite"
            for i, stored in tensors.items()
            if not all(tensor.isfinite().all() for tensor in stored.values())
        }
        kept = [i for i in range(len(samples)) if i not in problems]
        index = self._indexes[task.split]
        shard, source = index.plain_name(task.shard), index.shards[task.shard]
        lines = [f"{task.split}/{source}: sample {samples[i][0]}: {reason}" for i, reason in sorted(problems.items())]
        record = ShardRecord(
            samples=len(kept),
            latent_bytes=sum(latents[i].tensor.nbytes for i in kept),
            text_bytes=sum(tensor.nbytes for i in kept for tensor in tensors[i].values()),
            source_bytes=sum(len(samples[i][1].payload) for i in kept),
            skipped=(*skipped, *map(one_line, lines)),
            psnr=tuple(latent.psnr for latent in latents.values() if latent.psnr is not None),
        )
        # Samples are serialized one at a time, because a second copy of the whole shard would double the memory use.
        members = (
            (samples[i][0], serialize_sample(encoded_sample(samples[i][1], latents[i], tensors[i]))) for i in kept
        )
        UnfinishedDataset(self.job.folder(base_size)).write(task.split, shard, members, record)


def read_shard(index: SplitIndex, shard: int) -> tuple[list[tuple[str, Sample]], list[str]]:
    """Return the key and the sample of each readable row of a shard, and the errors of the other rows."""
    reader = ShardReader(index)
    samples, problems = [], []
    for row in (index.shard == shard).nonzero()[0].tolist():
        try:
            raw = reader.read_members(row)
            # If another program wrote the tars, several of them may contain the same key.
            key = raw.key if index.rules is None else f"{row:08d}"
            samples.append((key, reader.parse(row, raw)))
        except Exception as error:  # a broken sample can raise any exception, but must not affect the other samples
            problems.append(one_line(f"{index.shard_path(row)}: row {row}: {reason_of(error)}"))
    reader.close()
    return samples, problems


def text_tensors(captions: tuple[str, ...], text: dict[Group, dict[str, list[Tensor]]]) -> dict[str, Tensor]:
    """Return a mapping from the names of the stored tensors to the embeddings of a sample's captions."""
    tensors: dict[str, Tensor] = {}
    for group, tokens in text.items():
        for number, caption in enumerate(captions):
            tensors |= {tensor_name(group, i, number): tensor for i, tensor in enumerate(tokens[caption])}
        if group == "teacher":
            tensors |= {tensor_name(group, i, BLANK): tensor for i, tensor in enumerate(tokens[""])}
    return tensors


def encoded_sample(sample: Sample, latent: Latent, text: dict[str, Tensor]) -> Sample:
    """Return a copy of a sample whose payload contains the latent and the text embeddings instead of the image."""
    return Sample(
        id=sample.id,
        captions=sample.captions,
        width=latent.bucket.width,
        height=latent.bucket.height,
        payload=safetensors.torch.save({"latent": latent.tensor, **text}),
        extension=LATENT_EXTENSION,
        annotations=sample.annotations,
        seed=sample.seed,
    )


def device_of_process() -> torch.device:
    """Return the GPU for this process's local rank, which ``torchrun`` sets, or the CPU if there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Let torch use only one thread on a CPU, because the number of threads may change the results slightly."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
