"""Saved packages against the training form in PyTorch."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pocketdit.export import interpreter
from pocketdit.export.graphs import DECODER, TEXT, TRANSFORMER, example, text_inputs
from pocketdit.export.package import Package
from pocketdit.export.settings import Export
from pocketdit.export.subject import Subject
from pocketdit.mobile.split_einsum import HIDDEN


@dataclass(frozen=True)
class Check:
    """One output against the reference. ``max_error``: relative to the reference's largest magnitude. ``snr``: in dB,
    infinite where the two are equal and minus infinity where the package's output is not finite."""

    what: str
    max_error: float
    snr: float

    def passes(self, settings: Export) -> bool:
        """By ``max_error`` in float32, by ``min_snr`` in float16."""
        if settings.precision == "float32":
            return self.max_error <= settings.max_error
        return self.snr >= settings.min_snr

    def line(self) -> str:
        return f"{self.what:28} max error {self.max_error:.2e}   SNR {self.snr:.1f} dB"


def compare(what: str, found: Tensor, reference: Tensor) -> Check:
    error = (found.double() - reference.double()).abs()
    if not bool(torch.isfinite(found).all()):
        return Check(what, math.inf, -math.inf)
    largest, noise, signal = reference.abs().max(), error.square().mean(), reference.double().square().mean()
    snr = math.inf if noise == 0 else 10 * math.log10(signal / noise)
    return Check(what, float(error.max() / largest), snr)


@torch.no_grad()
def verify(packages: Mapping[str, Package], subject: Subject, settings: Export) -> Iterator[Check]:
    """Run every package on the same input as the training form: text projection, network at each of ``times``, decoder.

    The network is given what the text projection's package gave. Raises ``RunError`` for an operation that the
    interpreter does not know, before anything is computed.
    """
    for package in packages.values():
        interpreter.require_known(package)
    for time in settings.times:
        sample = example(subject, settings.batch, time, settings.seed)
        text = interpreter.run(packages[TEXT], text_inputs(sample.text))
        if time == settings.times[0]:
            tokens, mask = subject.network.text(sample.text)
            yield compare("text", text["text"], tokens.transpose(1, 2)[:, :, None])
            bias = torch.where(mask, 0.0, HIDDEN)[:, :, None, None]
            yield compare("text mask", text["text_bias"], bias)
        inputs = {"latents": sample.latents, "time": sample.time, **text}
        found = interpreter.run(packages[TRANSFORMER], inputs, progress=True)["velocity"]
        yield compare(f"velocity at time {time:g}", found, subject.network(sample.latents, sample.time, sample.text))
    if DECODER in packages:
        decoder: Any = subject.decoder
        latents = example(subject, 1, 0.0, settings.seed).latents
        found = interpreter.run(packages[DECODER], {"latents": latents}, progress=True)["image"]
        yield compare("image", found, decoder.decode(latents))
