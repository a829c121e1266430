"""The main job on real photographs: by changing one path it learns ten of them by heart."""

import csv
import shutil
from pathlib import Path

import pytest
import torch

from elastic_dit.cli import main
from elastic_dit.config.experiment import Experiment
from elastic_dit.sampling import sample
from elastic_dit.training.assemble import build_encoders, load_experiment, load_network
from elastic_dit.training.run_folder import find
from tests.conftest import PRETRAIN

# From scikit-image's own package; square, upright and wide ones.
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
    """The photographs with one CSV of captions."""
    data = pytest.importorskip("skimage").data_dir
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
@pytest.mark.timeout(1200)
def test_learns_ten_photographs_by_heart(folder: Path, tmp_path: Path) -> None:
    """After the run every caption draws a picture that is nearer to its own photograph than to any other."""
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
            "training.max_steps=700",
            "training.validate_every=0",
            "training.sample_every=0",
            f"sampling.prompts=[{prompts}]",
            "sampling.guidance=2",
        ]
    )
    assert status == 0
    run = find(tmp_path / "runs", "photographs")
    experiment: Experiment = load_experiment(run)
    encoders = build_encoders(experiment)
    truth = encoders.autoencoder.decode(encoders.latents({"images": squares(folder)}))
    for width, least in ((1.0, 9), (0.5, 7)):
        drawn = sample(load_network(run), encoders, experiment.sampling.prompts, width, experiment.sampling)
        distance = (drawn[:, None] - truth[None]).square().mean((2, 3, 4))
        assert (distance.argmin(1) == torch.arange(len(truth))).sum() >= least, distance


def squares(folder: Path) -> torch.Tensor:
    """The photographs cut to 128x128 in the middle, uint8 (10, 3, 128, 128)."""
    import numpy as np
    from PIL import Image, ImageOps

    pictures = [ImageOps.fit(Image.open(folder / name).convert("RGB"), (128, 128)) for name in PHOTOGRAPHS]
    return torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])
