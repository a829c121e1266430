"""Fine-tunes a finished run on a few captioned images, either with LoRA or by training all weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from pocketdit.artifacts.lora_file import LORA_FILE, save_lora
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.backbones.lora import active_adapter, adapter_parameters, lora_scale
from pocketdit.backbones.per_width import ELASTIC, LORA_PREFIX, Network, base_parameters
from pocketdit.bounds import Fraction, TimeShift, TimeSpread, Weight
from pocketdit.config.declared import latent_sides
from pocketdit.config.experiment import BaseExperiment, Experiment
from pocketdit.config.optimizers import LORA
from pocketdit.diffusion.path import draw_times, interpolate
from pocketdit.encoders.conditioning import text_dropout
from pocketdit.encoders.contract import TextTokens
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.sampling import sample_latents
from pocketdit.seeding import generator
from pocketdit.stages.contract import StageInputs
from pocketdit.stages.elastic_pretrain import ElasticPretrain, NoisyBatch, PriorBatch, require_dit
from pocketdit.stages.finetune_cost import finetune_cost
from pocketdit.stages.finetune_settings import ADAPTER, Lora, Prior, add_lora
from pocketdit.training.cost import StageCost
from pocketdit.training.ema import ema_copy
from pocketdit.training.optimizer import require_optimizer
from pocketdit.training.precision import autocast
from pocketdit.training.sharding import full_tensor, mesh_to_shard, shard
from pocketdit.training.update import draw_position


class Finetune(ElasticPretrain):
    """Stage that continues to train the network of a finished run on new images, at some or all of its widths.

    The loss on the new images is the same as in ``ElasticPretrain``. With ``lora``, only low-rank factors are trained.
    They are sliced to each width like the weights that they adapt, so one LoRA serves every width.

    A network that is only trained on a few images forgets what it learned before. As in DreamBooth (Ruiz et al. 2023),
    the network therefore samples images for the prompts in ``prior`` before fine-tuning, and every step also trains on
    a batch of these images. In DreamBooth, the target is the noise that was added to such an image. Here, the target is
    the velocity that the original network predicts for the noisy image at the same width, as in learning without
    forgetting (Li and Hoiem 2016). The original network is a minimum of this loss, whereas DreamBooth's loss would move
    even the original network toward the distribution of its guided samples. With LoRA, the original network takes no
    additional memory, because it is the base without its adapters.

    Args:
        inputs: The network, encoders, and settings of the run.
        lora: Settings of the LoRA. With null, all weights are trained.
        prior: Prompts whose images the network should not forget. With null, only the new images are used.
        time_shift: See ``ElasticPretrain``.
        time_spread: See ``ElasticPretrain``.
        drop_text: See ``ElasticPretrain``.
        distillation_weight: See ``ElasticPretrain``. It applies only to the new images.
    """

    def __init__(
        self,
        inputs: StageInputs[ElasticDiT],
        lora: Lora | None = None,
        prior: Prior | None = None,
        time_shift: TimeShift = 1.0,
        time_spread: TimeSpread = 1.0,
        drop_text: Fraction = 0.1,
        distillation_weight: Weight = 1.0,
    ) -> None:
        network = inputs.network
        if lora is not None:
            add_lora(network, lora)
        super().__init__(inputs, time_shift, time_spread, drop_text, distillation_weight)
        self.lora = lora
        self.prior = prior
        self.base = ema_copy(network) if prior is not None and lora is None else None
        self.prior_text: list[TextTokens] = []
        self.prior_latents: Tensor
        if prior is not None:
            assert self.sampling is not None
            assert inputs.autoencoder is not None
            sides = latent_sides(inputs.autoencoder, self.sampling.size)
            self.register_buffer("prior_latents", torch.zeros(prior.images, network.spec.latent_channels, *sides))

    @classmethod
    @override
    def check(cls, experiment: BaseExperiment) -> None:
        require_dit(experiment)
        if experiment.start is None:
            raise ValueError("parents.start: set it to the run to fine-tune")
        if experiment.stage.init_args.get("lora") is not None:
            require_optimizer(experiment.optimizer, LORA)

    @classmethod
    @override
    def cost(cls, experiment: BaseExperiment) -> StageCost:
        assert isinstance(experiment, Experiment)
        return finetune_cost(experiment)

    def configure_model(self) -> None:
        """Under FSDP2, also shard the copy of the original network."""
        if self.base is not None and (mesh := mesh_to_shard(self, self.backbone)):
            shard(self.base, mesh, self.training_spec.sharding)
        super().configure_model()

    def on_train_start(self) -> None:
        """Encode the prior's prompts and, in a new run, sample its images. Checkpoints contain these images."""
        if self.prior is None:
            return
        self.prior_text = self.encoders.tokens(self.prior.prompts)
        if self.global_step == 0:
            with autocast(self):
                self.prior_latents.copy_(self.sample_prior(self.prior))

    def sample_prior(self, prior: Prior) -> Tensor:
        """Sample the images of the prior with the widest network.

        Each round samples one image per prompt, and the seed increases by 1 after every round.

        Returns:
            Latents (``prior.images``, C, h, w).
        """
        assert self.sampling is not None
        latents: list[Tensor] = []
        for turn, first in enumerate(range(0, prior.images, len(prior.prompts))):
            prompts = prior.prompts[: prior.images - first]
            sampling = replace(self.sampling, seed=self.seed + turn)
            for start in range(0, len(prompts), 16):
                batch = prompts[start : start + 16]
                latents.append(sample_latents(self.ema, self.encoders, batch, self.widest, sampling))
        return torch.cat(latents)

    def prepare(self, batch: Any, number: int) -> NoisyBatch:
        """Encode a batch and add noise. If there is a prior, also choose a batch of the same size from its images."""
        noisy = super().prepare(batch, number)
        return noisy if self.prior is None else noisy._replace(prior=self.prior_batch(len(noisy.time), number))

    def prior_batch(self, size: int, number: int) -> PriorBatch:
        """Choose images of the prior and add noise. The batch index ``number`` seeds the random draws."""
        assert self.prior is not None
        position = draw_position(self, self.seed, number)
        chosen = torch.randint(self.prior.images, (size,), generator=generator("prior", *position))
        data = self.prior_latents[chosen.to(self.prior_latents.device)]
        text = [select(tokens, chosen % len(self.prior.prompts)) for tokens in self.prior_text]
        text = text_dropout(text, self.drop_text, generator("prior text", *position))
        time = draw_times(size, self.time_shift, self.time_spread, generator("prior time", *position)).to(data)
        noise = torch.randn(data.shape, generator=generator("prior noise", *position)).to(data)
        return PriorBatch(interpolate(data, noise, time), time, text)

    @override
    def loss(self, noisy: NoisyBatch, width: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        loss, prediction, logged = super().loss(noisy, width)
        if noisy.prior is None or self.prior is None:
            return loss, prediction, logged
        with torch.no_grad(), self.original() as network:
            target = network(*noisy.prior, width=width)
        kept = flow_matching_loss(self.backbone(*noisy.prior, width=width), target)
        return loss + self.prior.weight * kept, prediction, logged | {f"prior/width_{width:g}": kept.detach()}

    @contextmanager
    def original(self) -> Iterator[Network]:
        """Yield the network as it was before fine-tuning."""
        if self.base is not None:
            yield self.base
        else:
            with active_adapter(self.backbone, None, restore=ADAPTER):
                yield self.backbone

    def lora_weights(self) -> dict[str, Tensor]:
        """Return the LoRA's EMA weights as ``LAYER.A`` and ``LAYER.B``, where B includes the factor alpha / rank."""
        scale = lora_scale(self.ema, ADAPTER)
        return {
            name: full_tensor(value) * (scale if name.endswith(".B") else 1.0)
            for name, value in adapter_parameters(self.ema, ADAPTER).items()
        }

    def weights(self) -> dict[str, Tensor]:
        """Return the network's EMA weights. A LoRA is stored separately from its base weights (see ``lora_pairs``)."""
        if self.lora is None:
            return super().weights()
        base = {name: full_tensor(value) for name, value in base_parameters(self.ema).items()}
        return base | {f"{LORA_PREFIX}{ELASTIC}.{name}": value for name, value in self.lora_weights().items()}

    def on_train_end(self) -> None:
        """Write the LoRA in the format of diffusers and peft."""
        if self.lora is None:
            return
        weights = self.lora_weights()
        if self.trainer.is_global_zero:
            save_lora(RunFolder(Path(self.trainer.default_root_dir)).path / LORA_FILE, weights)


def select(tokens: TextTokens, rows: Tensor) -> TextTokens:
    """Return the tokens of the captions with the given row indices."""
    rows = rows.to(tokens.mask.device)
    return TextTokens(tokens.embeddings[rows], tokens.mask[rows])
