"""Compare exported packages with PyTorch. Each export target provides a function that runs its packages."""

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocketdit.encoders.conditioning import is_empty
from pocketdit.errors import RunError
from pocketdit.export.app.tokenizers import tokenize
from pocketdit.export.common.bundle_files import DECODER, TEXT_PROJECTION, TRANSFORMER
from pocketdit.export.common.comparison import Comparison, Tolerance, compare
from pocketdit.export.common.graphs import make_example, text_projection_inputs
from pocketdit.export.common.kept_lora import LORA_SCALE, merged
from pocketdit.export.common.settings import BaseExport
from pocketdit.export.common.subject import Subject
from pocketdit.export.common.text_graphs import EMBEDDINGS, ExportedText, text_entries
from pocketdit.mobile.split_einsum import HIDDEN

Runner = Callable[[str, Mapping[str, Tensor]], dict[str, Tensor]]
"""Runs a package, given its name and its inputs, and returns its named outputs in fp32."""


def require_equal_outputs(comparisons: Iterable[Comparison], tolerance: Tolerance) -> list[Comparison]:
    """Print each comparison, and check that all outputs are within the tolerance.

    Returns:
        The comparisons.

    Raises:
        RunError: An output is outside the tolerance. The message describes the output with the smallest SNR.
    """
    checked = []
    for comparison in comparisons:
        print(comparison, flush=True)
        checked.append(comparison)
    if failed := [c for c in checked if not tolerance.accepts(c)]:
        worst = min(failed, key=lambda c: c.snr if not math.isnan(c.snr) else -math.inf)
        raise RunError(f"the packages differ from the network: {tolerance.describe_violation(worst)}")
    return checked


@torch.no_grad()
def compare_packages(
    run: Runner, packages: Container[str], subject: Subject, settings: BaseExport, batch: int
) -> Iterator[Comparison]:
    """Run the packages and PyTorch on the same inputs, and yield a comparison of each output.

    The transformer is compared at each time in ``settings.times``. If a LoRA is kept separate, the transformer is
    compared both with and without the LoRA. The text projection's package computes the transformer's text inputs.

    Args:
        run: Function that runs a package.
        packages: Names of the packages in the bundle.
        subject: The network in the training form, and its decoder.
        settings: Settings of the export, including the times and the seed of the inputs.
        batch: Batch size of the transformer.
    """
    for time in settings.times:
        example = make_example(subject, batch, time, settings.seed)
        text = run(TEXT_PROJECTION, text_projection_inputs(example.text))
        if time == settings.times[0]:
            tokens, mask = subject.network.text(example.text)
            yield compare("text", text["text"], tokens.transpose(1, 2)[:, :, None])
            yield compare("text mask", text["text_bias"], torch.where(mask, 0.0, HIDDEN)[:, :, None, None])
        inputs = {"latents": example.latents, "time": example.time, **text}
        for scale in (1.0, 0.0) if subject.lora else (None,):
            network, name = subject.network, f"velocity at time {time:g}"
            if scale is not None:
                network, name = merged(network, subject.lora, scale), f"{name}, {LORA_SCALE} {scale:g}"
                inputs[LORA_SCALE] = torch.tensor([scale])
            velocity = run(TRANSFORMER, inputs)["velocity"]
            yield compare(name, velocity, network(example.latents, example.time, example.text))
    if DECODER in packages:
        assert subject.decoder is not None
        decoder: Any = subject.decoder.module
        latents = make_example(subject, 1, 0.0, settings.seed).latents
        yield compare("image", run(DECODER, {"latents": latents})["image"], decoder.decode(latents))


@torch.no_grad()
def compare_texts(
    run: Runner, texts: Sequence[ExportedText | None], subject: Subject, folder: Path
) -> Iterator[Comparison]:
    """Tokenize a prompt as an app does, run the text encoders, and yield a comparison of each encoder's embeddings.

    Args:
        run: Function that runs a package.
        texts: The text encoders.
        subject: The exported network. The prompt is its first preview prompt that is not empty.
        folder: The bundle, which contains the tokenizers' files.
    """
    prompt = next((prompt for prompt in subject.experiment.sampling.prompts if not is_empty(prompt)), "a")
    for entry, text in zip(text_entries(subject, texts), texts, strict=True):
        if text is not None:
            expected = text.encoder.encode([prompt]).embeddings
            padding = entry["tokens"] - expected.shape[1]
            embeddings = run(text.package, tokenize(prompt, entry, folder))[EMBEDDINGS]
            yield compare(text.package, embeddings, torch.nn.functional.pad(expected, (0, 0, 0, padding)))
