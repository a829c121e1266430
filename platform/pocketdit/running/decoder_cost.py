"""``lightning run FILE --plan`` for a tiny decoder: counted on the meta device, and timed where a step is short."""

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketdit.config.component import build
from pocketdit.config.experiment import DecoderExperiment
from pocketdit.decoders.spec import TinyDecoderSpec
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.losses.reconstruction import charbonnier_loss
from pocketdit.running.cost_estimate import MEASURE_BELOW_FLOPS, USUAL_SHARE, count_parameters, matrix_rate
from pocketdit.training.precision import resolve_precision


def decoder_parameters(spec: TinyDecoderSpec) -> int:
    with torch.device("meta"):
        return count_parameters(TinyDecoder(spec))


def decoder_flops(spec: TinyDecoderSpec, sides: tuple[int, int]) -> int:
    """FLOPs of decoding one latent of ``sides``."""
    with torch.device("meta"):
        decoder, latents = TinyDecoder(spec), torch.empty(1, spec.latent_channels, *sides)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(latents)
    return counter.get_total_flops()


def measured_step_seconds(experiment: DecoderExperiment, batch: int, sides: tuple[int, int]) -> float:
    """Seconds of one step of the decoder alone on this machine, the best of three."""
    spec, half = experiment.decoder, resolve_precision(experiment.training.precision, "cpu") == "bf16-mixed"
    decoder = TinyDecoder(spec)
    optimizer = build(experiment.optimizer, params=list(decoder.parameters()))
    latents = torch.zeros(batch, spec.latent_channels, *sides)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            images = decoder(latents)
        charbonnier_loss(images, torch.zeros_like(images)).backward()
        optimizer.step()
        optimizer.zero_grad()
        best = min(best, time.perf_counter() - began)
    return best


def plan_decoder(experiment: DecoderExperiment) -> str:
    """The text that ``--plan`` prints."""
    spec, training = experiment.decoder, experiment.training
    batch = int(experiment.data.init_args.get("batch_size", 1))
    base = int(experiment.data.init_args.get("base_size", 128))
    side = int(experiment.stage.init_args.get("crop") or base)
    sides = (side // spec.factor, side // spec.factor)
    step_flops = 3 * decoder_flops(spec, sides) * batch * training.accumulate
    on_gpu = training.accelerator != "cpu" and torch.cuda.is_available()
    if not on_gpu and step_flops < MEASURE_BELOW_FLOPS:
        seconds = measured_step_seconds(experiment, batch, sides) * training.accumulate
        basis = f"a step measured here, {torch.get_num_threads()} threads"
    else:
        device = torch.device("cuda" if on_gpu else "cpu")
        rate = matrix_rate(device, torch.bfloat16 if on_gpu else torch.float32)
        seconds = step_flops / (rate * USUAL_SHARE)
        basis = f"assumed {USUAL_SHARE:.0%} of this machine's matrix rate, {rate / 1e12:.2f} TFLOP/s"
    hours, minutes = divmod(round(training.max_steps * seconds / 60), 60)
    full = decoder_flops(spec, (base // spec.factor, base // spec.factor))
    return "\n".join([
        f"{experiment.experiment}: {training.max_steps} steps of {batch * training.accumulate} windows a process, "
        f"{side}x{side} pixels",
        "",
        f"  parameters         {decoder_parameters(spec) / 1e6:.3g} M",
        f"  FLOPs of decoding  {full / 1e9:,.2f} G for {base}x{base} pixels",
        f"  FLOPs per step     {step_flops / 1e9:,.1f} G a process",
        f"  training           {hours} h {minutes:02d} min for {training.max_steps} steps ({basis}); data, the",
        "                     autoencoder, perceptual and adversarial losses, validation and pictures not counted",
    ])  # fmt: skip
