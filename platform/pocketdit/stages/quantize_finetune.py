"""Quantizes a network to 4-bit and 8-bit palettes, and fine-tunes all other weights (paper supplement C)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.backbones.per_width import Network, PerWidthNetworks
from pocketdit.bounds import Fraction, TimeShift, TimeSpread
from pocketdit.config.experiment import BaseExperiment, Experiment
from pocketdit.diffusion.rollout import euler_rollout
from pocketdit.diffusion.samplers import uniform_times
from pocketdit.errors import ConfigError
from pocketdit.files import write_atomically
from pocketdit.quantization.allocation import Ranking, require_reachable_average
from pocketdit.quantization.mixed_precision import apply_palettes, mixed_precision_palettes
from pocketdit.quantization.palette import CORE_ML_BITS, palettized_layers, save_palettes
from pocketdit.quantization.report import QuantizationReport, plot_sensitivity
from pocketdit.seeding import choose, generator
from pocketdit.stages.contract import StageInputs
from pocketdit.stages.elastic_pretrain import ElasticPretrain, NoisyBatch
from pocketdit.stages.quantize_cost import quantization_cost
from pocketdit.training.cost import StageCost
from pocketdit.training.ema import ema_copy
from pocketdit.training.update import draw_position


@dataclass
class Unquantized:
    """Wrapper that keeps the unquantized network out of checkpoints, because the parent run already stores its weights.

    The wrapper is not an ``nn.Module``, so the stage does not register the network as a submodule.
    """

    network: PerWidthNetworks


class QuantizeFinetune(ElasticPretrain):
    """Stage that quantizes one width of a run and fine-tunes its other weights to restore the original outputs.

    At the start, every linear and convolutional layer with more than ``weight_threshold`` weights gets a k-means
    palette of 2^``low_bits`` values. The most sensitive layers get 2^``high_bits`` values instead, up to an average of
    ``average_bits`` bits per weight, palettes included. Sensitivity is measured on ``calibration_batches`` batches of
    the training data, with the noise and times of training. The palettized weights are then frozen. All other
    parameters (biases, norms, modulation tables, the learned token, and small layers) are trained by self-distillation.
    The loss is the mean squared error between the velocities of the quantized and the unquantized network for the same
    x_t, t, and text.

    Args:
        inputs: The network, encoders, and settings of the run. The network is one width of the run ``parents.start``.
        steps: Number of sampling steps of a few-step model, or 0 for any other model. With 0, x_t and t are drawn as in
            pre-training. Otherwise, t is a randomly chosen sampling time, and the quantized network itself takes the
            Euler steps from noise to x_t.
        average_bits: Average number of bits per palettized weight.
        low_bits: Number of bits for most layers.
        high_bits: Number of bits for the most sensitive layers.
        weight_threshold: Layers with more weights than this are palettized.
        calibration_batches: Number of batches on which sensitivity is measured.
        ranking: How the sensitivity of a layer is measured. "mse" is the mean squared error of its output, as in the
            paper. "relative" is this error divided by the mean square of the output.
        time_shift: Factor by which the times are shifted toward noise.
        time_spread: See ``ElasticPretrain``. Used only if ``steps`` is 0.
        drop_text: See ``ElasticPretrain``. Used only if ``steps`` is 0.
    """

    separate_widths: ClassVar[bool] = True

    def __init__(
        self,
        inputs: StageInputs[Network],
        steps: int = 0,
        average_bits: float = 4.3,
        low_bits: int = 4,
        high_bits: int = 8,
        weight_threshold: int = 2048,
        calibration_batches: int = 8,
        ranking: Ranking = "relative",
        time_shift: TimeShift = 1.0,
        time_spread: TimeSpread = 1.0,
        drop_text: Fraction = 0.1,
    ) -> None:
        backbone = inputs.network
        if not isinstance(backbone, PerWidthNetworks):
            raise ConfigError("parents.start: set it to the run to quantize")
        if not {low_bits, high_bits} <= set(CORE_ML_BITS) or low_bits >= high_bits:
            raise ConfigError(
                f"stage.init_args: low_bits and high_bits must be two of {CORE_ML_BITS}, with low_bits below high_bits"
            )
        if steps < 0 or calibration_batches < 1:
            raise ConfigError("stage.init_args: steps must be at least 0, and calibration_batches at least 1")
        if steps and inputs.training.validate_every:
            raise ConfigError(
                "training.validate_every must be 0, since a few-step model has no validation loss; evaluate its samples"
            )
        layers = palettized_layers(backbone, weight_threshold)
        if not layers:
            raise ConfigError(f"stage.init_args.weight_threshold: no layer has more than {weight_threshold} weights")
        weights = {name: layer.get_parameter("weight").numel() for name, layer in layers.items()}
        require_reachable_average(weights, average_bits, low_bits)
        backbone.requires_grad_(True).train()
        super().__init__(inputs, time_shift, time_spread, drop_text)
        self.unquantized = Unquantized(ema_copy(backbone).eval())
        for layer in layers.values():
            layer.get_parameter("weight").requires_grad_(False)
        self.width = self.widest
        self.times = uniform_times(steps, time_shift) if steps else []
        self.average_bits = average_bits
        self.low_bits, self.high_bits = low_bits, high_bits
        self.weight_threshold = weight_threshold
        self.calibration_batches = calibration_batches
        self.ranking = ranking
        self.quantized: Tensor
        self.register_buffer("quantized", torch.tensor(False))

    @classmethod
    @override
    def check(cls, experiment: BaseExperiment) -> None:
        assert isinstance(experiment, Experiment)
        widths = experiment.dit.widths
        if len(widths) != 1:
            raise ValueError(f"backbone.widths: must contain only the width to quantize, not {list(widths)}")
        if experiment.training.strategy == "fsdp2":
            raise ValueError("training.strategy: fsdp2 is not supported because few parameters are trained; use ddp")

    @classmethod
    @override
    def logged_metrics(cls, experiment: BaseExperiment) -> Sequence[str]:
        return () if experiment.stage.init_args.get("steps") else super().logged_metrics(experiment)

    @classmethod
    @override
    def cost(cls, experiment: BaseExperiment) -> StageCost:
        assert isinstance(experiment, Experiment)
        return quantization_cost(experiment)

    def on_fit_start(self) -> None:
        """Quantize the network when the run starts. In a resumed run, it is already quantized."""
        self.unquantized.network.to(self.device)
        if not self.quantized:
            self.quantize()

    def quantize(self) -> QuantizationReport:
        """Palettize the weights, and write the palettes, a report, and a plot to the run folder."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets this attribute dynamically
        batches = [
            self.transfer_batch_to_device(batch, self.device, 0)
            for batch in islice(data.train_dataloader(), self.calibration_batches)
        ]
        # Cycle through the times of a few-step model, so that none is missed by chance.
        inputs = [self.noisy_batch(batch, index, index) for index, batch in enumerate(batches)]
        palettes, report = mixed_precision_palettes(
            self.unquantized.network.for_width(self.width),
            [(noisy.x_t, noisy.time, noisy.text) for noisy in inputs],
            self.average_bits,
            self.low_bits,
            self.high_bits,
            self.weight_threshold,
            gather=lambda sums: self.trainer.strategy.reduce(sums, reduce_op="sum"),
            ranking=self.ranking,
        )
        for network in (self.backbone, self.ema):
            assert isinstance(network, PerWidthNetworks)
            apply_palettes(network.for_width(self.width), palettes)
        self.quantized.fill_(True)
        if self.trainer.is_global_zero:
            folder = RunFolder(Path(self.trainer.default_root_dir))
            save_palettes(folder.palettes, palettes)
            write_atomically(folder.path / "quantization.json", report.to_json())
            plot_sensitivity(report, folder.path / "quantization.png")
            print(report.summary(), flush=True)
        return report

    @torch.no_grad()
    def prepare(self, batch: Mapping[str, Any], number: int) -> NoisyBatch:
        """Return the inputs of a step, with the unquantized network's velocity as the target."""
        iteration = number // self.training_spec.accumulate
        step = int(choose(range(max(1, len(self.times) - 1)), "roll-out", self.seed, iteration))
        noisy = self.noisy_batch(batch, number, step)
        target = self.unquantized.network(noisy.x_t, noisy.time, noisy.text, width=self.width)
        return noisy._replace(target=target)

    def noisy_batch(self, batch: Mapping[str, Any], number: int, step: int) -> NoisyBatch:
        """Return noisy data or, for a few-step model, the model's own input to sampling step ``step``.

        ``step`` is taken modulo the number of sampling steps. For a few-step model, the target is a placeholder.
        """
        if not self.times:
            return super().prepare(batch, number)
        text = self.encoders.text_of(batch)
        position = draw_position(self, self.seed, number)
        noise = torch.randn(self.encoders.latent_shape(batch), generator=generator("noise", *position)).to(self.device)
        x_t, time = euler_rollout(
            lambda x, t: self.backbone(x, t, text, width=self.width).float(),
            noise,
            self.times,
            step % (len(self.times) - 1),
        )
        return NoisyBatch(x_t, time, text, target=x_t)
