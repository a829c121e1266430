"""Tests that elastic pre-training can memorize ten photographs from a folder of images."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import find, load_experiment
from pocketdit.commands.main import main
from pocketdit.config.experiment import Experiment
from pocketdit.images import from_uint8
from pocketdit.running.assemble import build_encoders
from pocketdit.sampling import sample
from tests.conftest import PRETRAIN

# These photographs are included in scikit-image. Some are square, some portrait, and some landscape.
PHOTOGRAPHS = {
    "astronaut.png": "an astronaut in an orange suit before a flag",
    "chelsea.png": "the face of a tabby cat",
    "coffee.png": "a cup of coffee on a wooden table",
    "rocket.jpg": "a rocket on its launch pad at night",
    "camera.png": "a man with a camera on a tripod, black and white",
    "coins.png": "rows of old coins",
    "hubble_deep_field.jpg": "galaxies in deep space",
    "motorcycle_left.png": "a motorcycle in a garage",
    "moon.png": "the cratered surface of the moon",
    "retina.jpg": "the retina of an eye",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the photographs and a CSV file of captions."""
    data = Path(pytest.importorskip("skimage").__file__).parent / "data"
    target = tmp_path / "photographs"
    target.mkdir()
    with (target / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "caption"])
        for name, caption in PHOTOGRAPHS.items():
            shutil.copy(Path(data) / name, target / name)
            rows.writerow([name, caption])
    return target


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memorizes_ten_photographs(folder: Path, tmp_path: Path) -> None:
    """After training, sampling a caption reproduces the captioned photograph at every width."""
    data = tmp_path / "data"
    assert main(["data", "build", str(folder), str(data), "--validation", "same", "--max-side", "512"]) == 0
    assert main(["data", "validate", str(data)]) == 0
    prompts = ", ".join(f'"{caption}"' for caption in PHOTOGRAPHS.values())
    status = main(
        [
            "run",
            str(PRETRAIN),
            f"data.init_args.path={data}",
            "data.init_args.batch_size=10",
            "experiment=photographs",
            f"runs={tmp_path / 'runs'}",
            f"tracking.uri=sqlite:///{tmp_path / 'mlflow.db'}",
            "training.max_steps=2500",
            "training.validate_every=0",
            "training.sample_every=0",
            "autoencoder.init_args.center=-0.25",
            "backbone.latent_std=[2.65,0.69,0.67,0.35,0.36,0.35,0.23,0.25,0.26,0.21,0.88,0.15,0.14,0.88,0.14,0.15]",
            f"sampling.prompts=[{prompts}]",
            "sampling.guidance=1",
        ]
    )
    assert status == 0
    run = find(tmp_path / "runs", "photographs")
    experiment: Experiment = load_experiment(run)
    encoders, network = build_encoders(experiment), load_network(run)
    for size, photographs in by_bucket(folder).items():
        captions = [PHOTOGRAPHS[name] for name in photographs]
        originals = from_uint8(torch.stack(list(photographs.values())))
        for width in (1.0, 0.5, 0.375):
            samples = sample(network, encoders, captions, width, replace(experiment.sampling, size=size))
            error = (samples - originals).square().mean((1, 2, 3)).sqrt()
            assert error.max() < 0.25, (width, dict(zip(photographs, error.tolist(), strict=True)))


def by_bucket(folder: Path) -> dict[tuple[int, int], dict[str, torch.Tensor]]:
    """Return the photographs at the sizes used in training, as uint8 (3, H, W), grouped by size (H, W)."""
    import numpy as np
    from PIL import Image, ImageOps

    from datamodules.shards.buckets import bucket_list, nearest_bucket

    photographs: dict[tuple[int, int], dict[str, torch.Tensor]] = {}
    for name in PHOTOGRAPHS:
        image = Image.open(folder / name).convert("RGB")
        buckets = bucket_list(128)
        bucket = buckets[nearest_bucket(*image.size, buckets)]
        fitted = np.array(ImageOps.fit(image, (bucket.width, bucket.height)))
        photographs.setdefault((bucket.height, bucket.width), {})[name] = torch.from_numpy(fitted).permute(2, 0, 1)
    return photographs
