"""A user's data module, stage and metric, to which the YAML files refer by class path."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from evaluation.contract import ImageSet, Result, Score, open_image
from pocketdit.backbones.dit import ElasticDiT
from pocketdit.config.component import build
from pocketdit.diffusion.path import interpolate, velocity
from pocketdit.losses.flow_matching import flow_matching_loss
from pocketdit.stages.contract import Stage, StageInputs

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColorDataset(Dataset[dict[str, Any]]):
    """Single-color images with captions that name the color."""

    def __init__(self, length: int, side: int) -> None:
        self.length, self.side = length, side

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, color = list(COLORS.items())[index % len(COLORS)]
        image = torch.tensor(color, dtype=torch.uint8)[:, None, None].expand(3, self.side, self.side).contiguous()
        return {"images": image, "captions": f"a {name} image"}


class ColorData(LightningDataModule):
    """A plain Lightning data module with a finite map-style data set."""

    def __init__(self, length: int = 10, side: int = 32, batch_size: int = 4) -> None:
        super().__init__()
        self.length, self.side, self.batch_size = length, side, batch_size

    def prepare_data(self) -> None:
        Path("downloaded.txt").write_text(str(self.length))

    def setup(self, stage: str) -> None:
        length = int(Path("downloaded.txt").read_text())
        self.train, self.validation = ColorDataset(length, self.side), ColorDataset(5, self.side)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(self.validation, self.batch_size)


class PlainFlowMatching(LightningModule, Stage):
    """Flow matching for the full network only, with Lightning's automatic optimization."""

    def __init__(self, inputs: StageInputs[ElasticDiT], loss_weight: float = 1.0) -> None:
        super().__init__()
        self.backbone, self.encoders, self.optimizer = inputs.network, inputs.encoders, inputs.optimizer
        self.loss_weight = loss_weight

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = build(self.optimizer, params=list(self.backbone.named_parameters()))
        return optimizer

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Tensor]:
        data, text = self.encoders.latents(batch), self.encoders.tokens(batch["captions"])
        noise, time = torch.randn_like(data), torch.rand(len(data), device=data.device)
        prediction = self.backbone(interpolate(data, noise, time), time, text)
        loss = self.loss_weight * flow_matching_loss(prediction, velocity(data, noise))
        return {"loss": loss, "prediction": prediction.detach()}

    def weights(self) -> dict[str, Tensor]:
        return self.backbone.state_dict()


class Redness:
    """The mean of the red channel, in [0, 1]."""

    def __init__(self, prompts: str) -> None:
        self.prompts = prompts

    def score(self, images: ImageSet) -> Result:
        values = {
            name: float(sum(open_image(path)[..., 0].mean() / 255 for path in paths) / len(paths))
            for name, paths in images.images.items()
        }
        mean = sum(values.values()) / len(values)
        return Result("redness", {"overall": Score(mean, len(values), values)}, {"channel": "red"})
