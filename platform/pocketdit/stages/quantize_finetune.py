"""Quantisation (paper supplement C): weights in palettes of 4 and 8 bits, then fine-tuning of all that is in none."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.backbones.by_width import ByWidth, Network
from pocketdit.config.component import Component
from pocketdit.config.experiment import Training
from pocketdit.diffusion.rollout import roll_out
from pocketdit.diffusion.samplers import uniform_times
from pocketdit.encoders.inputs import Encoders
from pocketdit.errors import ConfigError
from pocketdit.files import write_atomically
from pocketdit.quantization.allocation import require_possible
from pocketdit.quantization.mix import mixed_palettes, put
from pocketdit.quantization.palette import CORE_ML_BITS, palettised_layers, save_palettes
from pocketdit.quantization.report import Report, draw_chart
from pocketdit.seeding import choose, generator
from pocketdit.stages.elastic_pretrain import Draw, ElasticPretrain
from pocketdit.training.ema import averaged_copy


@dataclass
class Original:
    """The network before quantisation. Not a module: a checkpoint need not hold what the parent run has."""

    network: ByWidth


class QuantizeFinetune(ElasticPretrain):
    """One width of a run in palettes, whose biases, norms, tables and small layers then learn what it gave before.

    At the start every linear and convolutional layer with more than ``weight_threshold`` weights gets a k-means palette
    of 2^``low_bits`` values, and the most sensitive layers one of 2^``high_bits``, up to ``average_bits`` bits a weight
    (palettes included). Sensitivity is measured on ``calibration_batches`` of the training data, with the inputs that
    training draws. From then on these weights are frozen, and everything else (biases, norms, modulation tables, the
    learned token, small layers) is trained by self-distillation: the mean squared error between the velocities of
    the quantised network and the unquantised one at the same x_t, t and text.

    ``steps``: 0 draws x_t and t as pre-training does, by ``time_shift`` and ``time_spread``, with text dropped by
    ``drop_text``. More is for a few-step model: x_t is where the quantised network's own ``steps`` Euler steps (shifted
    by ``time_shift``) have led it from noise, at a random one of their times.
    """

    takes_standalone: ClassVar[bool] = True

    def __init__(
        self,
        backbone: Network,
        encoders: Encoders,
        optimizer: Component,
        training: Training,
        seed: int,
        steps: int = 0,
        average_bits: float = 4.3,
        low_bits: int = 4,
        high_bits: int = 8,
        weight_threshold: int = 2048,
        calibration_batches: int = 8,
        time_shift: float = 1.0,
        time_spread: float = 1.0,
        drop_text: float = 0.1,
    ) -> None:
        if not isinstance(backbone, ByWidth):
            raise ConfigError("parents.start: name the run that is to be quantised")
        if len(backbone.spec.widths) != 1:
            raise ConfigError(f"backbone.widths: a run quantises one width, not {list(backbone.spec.widths)}")
        if not {low_bits, high_bits} <= set(CORE_ML_BITS) or low_bits >= high_bits:
            raise ConfigError(f"stage.init_args: low_bits and high_bits must be two of {CORE_ML_BITS}, the lower first")
        if steps < 0 or calibration_batches < 1:
            raise ConfigError("stage.init_args: steps must not be negative, calibration_batches at least 1")
        if steps and training.validate_every:
            raise ConfigError("training.validate_every must be 0: a few-step model has no validation loss; score it")
        if training.strategy == "fsdp2":
            raise ConfigError(
                "training.strategy: so few parameters are trained that there is nothing to shard: use ddp"
            )
        layers = palettised_layers(backbone, weight_threshold)
        if not layers:
            raise ConfigError(f"stage.init_args.weight_threshold: no layer has more than {weight_threshold} weights")
        weights = {name: layer.get_parameter("weight").numel() for name, layer in layers.items()}
        require_possible(weights, average_bits, low_bits)
        super().__init__(backbone, encoders, optimizer, training, seed, time_shift, time_spread, drop_text)
        self.original = Original(averaged_copy(backbone).eval())
        self.backbone.requires_grad_(True).train()
        for layer in layers.values():
            layer.get_parameter("weight").requires_grad_(False)
        self.width = self.widest
        self.times = uniform_times(steps, time_shift) if steps else []
        self.average_bits = average_bits
        self.low_bits, self.high_bits = low_bits, high_bits
        self.weight_threshold = weight_threshold
        self.calibration_batches = calibration_batches
        self.quantised: Tensor
        self.register_buffer("quantised", torch.tensor(False))

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in self.backbone.named_parameters() if value.requires_grad]

    def on_fit_start(self) -> None:
        self.original.network.to(self.device)
        if not self.quantised:
            self.quantise()

    def quantise(self) -> Report:
        """Weights into palettes, measured on the run's own data; palettes, figures and chart into the run folder."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        batches = [
            self.transfer_batch_to_device(batch, self.device, 0)
            for batch in islice(data.train_dataloader(), self.calibration_batches)
        ]
        # The times of a few-step model in turn, so that none is missed by chance.
        draws = [self.inputs(batch, index, index) for index, batch in enumerate(batches)]
        palettes, report = mixed_palettes(
            self.original.network.at(self.width),
            [(draw.x_t, draw.time, draw.text) for draw in draws],
            self.average_bits, self.low_bits, self.high_bits, self.weight_threshold,
            gather=lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum"),
        )  # fmt: skip
        for network in (self.backbone, self.average):
            assert isinstance(network, ByWidth)
            put(network.at(self.width), palettes)
        self.quantised.fill_(True)
        if self.trainer.is_global_zero:
            folder = RunFolder(Path(self.trainer.default_root_dir))
            save_palettes(folder.palettes, palettes)
            write_atomically(folder.path / "quantization.json", report.to_json())
            draw_chart(report, folder.path / "quantization.png")
            print(report.line(), flush=True)
        return report

    @torch.no_grad()
    def draw(self, batch: Mapping[str, Any], batch_idx: int) -> Draw:
        """x_t, t and text of this step, and the unquantised network's velocity as the target."""
        step = int(choose(range(max(1, len(self.times) - 1)), "roll-out", self.seed, batch_idx))
        draw = self.inputs(batch, batch_idx, step)
        return draw._replace(target=self.original.network(draw.x_t, draw.time, draw.text, width=self.width))

    def inputs(self, batch: Mapping[str, Any], batch_idx: int, step: int) -> Draw:
        """Noised data; or a few-step model's input on its own way from noise, before its ``step``-th step (modulo)."""
        if not self.times:
            return super().draw(batch, batch_idx)
        text = self.encoders.tokens(batch["captions"])
        here = (self.seed, batch_idx, self.global_rank)
        noise = torch.randn(self.encoders.latent_shape(batch), generator=generator("noise", *here)).to(self.device)
        x_t, time = roll_out(
            lambda x, t: self.backbone(x, t, text, width=self.width).float(),
            noise, self.times, step % (len(self.times) - 1),
        )  # fmt: skip
        return Draw(x_t, time, text, target=x_t)
