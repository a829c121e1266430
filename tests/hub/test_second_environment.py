"""Tests that a published folder can be loaded in an environment with only the wheel, and in one without PocketDiT."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketdit.artifacts.network import load_network
from pocketdit.artifacts.run_folder import RunFolder, load_experiment
from pocketdit.commands.main import main
from pocketdit.running.assemble import build_encoders
from pocketdit.sampling import initial_noise, sample
from tests.conftest import ROOT
from tests.encoders.test_pretrained_text import save_clip, save_gemma
from tests.encoders.test_vae import write_checkpoints
from tests.hub.conftest import write_run
from tests.hub.stand_in import StandInHub

PROMPTS = ["a red circle", "a blue square"]
# A program that samples images at every width and writes them to a file.
PROGRAM = """
import numpy as np, torch
pipe.set_progress_bar_config(disable=True)
latents = torch.from_numpy(np.load(folder + ".latents.npy"))
result = {}
for width in pipe.widths:
    pipe.set_width(width)
    result[str(width)] = pipe(prompts, latents=latents, output_type="np").images
np.savez(folder + ".images.npz", **result)
"""
WITH_PACKAGE = """
import sys
sys.path.insert(0, {site!r})
from pocketdit import PocketDiTPipeline
assert PocketDiTPipeline.__module__ and sys.modules["pocketdit"].__file__.startswith({site!r})
prompts = {prompts!r}
for folder in {folders!r}:
    pipe = PocketDiTPipeline.from_pretrained(folder)
    exec({program!r})
"""
WITHOUT_PACKAGE = """
import sys
from importlib import util
from pathlib import Path

shim = util.spec_from_file_location("shim", {shim!r})  # makes torchvision work with a CPU build of torch
module = util.module_from_spec(shim)
shim.loader.exec_module(module)
module.install()
sys.path[:] = [path for path in sys.path if not (Path(path) / "pocketdit").exists()]
assert util.find_spec("pocketdit") is None
from diffusers import DiffusionPipeline

prompts = {prompts!r}
for folder in {folders!r}:
    try:
        DiffusionPipeline.from_pretrained(folder)
        raise SystemExit("diffusers ran the code without being asked to")
    except ValueError as error:
        assert "trust_remote_code" in str(error), error
    pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    exec({program!r})
assert not any(name.startswith("pocketdit.backbones") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny, randomly initialized versions of the paper's autoencoder and text encoders."""
    folder = tmp_path_factory.mktemp("paper")
    write_checkpoints(folder)
    save_clip(folder / "clip")
    save_gemma(folder / "gemma")
    return folder


def paper_overrides(autoencoder: str, clip: str, gemma: str) -> list[str]:
    encoders = "pocketdit.encoders"
    return [
        f"autoencoder={{class_path: {encoders}.vae.DiffusersAutoencoder, "
        f"init_args: {{repository: {autoencoder}, kind: qwen_image}}}}",
        f"text_encoders=[{{class_path: {encoders}.pretrained_text.ClipTextEncoder, "
        f"init_args: {{repository: {clip}, max_tokens: 8}}}}, "
        f"{{class_path: {encoders}.pretrained_text.Gemma3TextEncoder, "
        f"init_args: {{repository: {gemma}, max_tokens: 7, dtype: float32}}}}]",
        "backbone.text_inputs=[16, 16]",
        "backbone.latent_std=[]",
    ]


@pytest.fixture(scope="module")
def paper_run(checkpoints: Path) -> RunFolder:
    """A run whose encoders are in local folders."""
    overrides = paper_overrides(*(f"{checkpoints}/{name}" for name in ("qwen_image", "clip", "gemma")))
    return write_run(checkpoints / "runs", overrides, "paper/first")


@pytest.fixture(scope="module")
def encoder_hub(checkpoints: Path) -> Iterator[StandInHub]:
    """A stand-in for the Hub with the same encoders as the local folders."""
    server = StandInHub()
    for name, folder, prefix in (("vae", "qwen_image", "vae/"), ("clip", "clip", ""), ("gemma", "gemma", "")):
        files = {prefix + path.name: path.read_bytes() for path in (checkpoints / folder).iterdir()}
        server.add(f"carol/{name}", files)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def expected(run: RunFolder, paper_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The expected images of each published folder and width. The initial noise is stored next to each folder.

    The third folder refers to encoders on the Hub, which are the same as the encoders in the second folder.
    """
    target = tmp_path_factory.mktemp("folders")
    images = {}
    for name, folder in {"embedded": run, "paper": paper_run}.items():
        published = target / name
        assert main(["publish", str(folder.path), "--to", str(published)]) == 0
        experiment, network = load_experiment(folder), load_network(folder)
        encoders = build_encoders(experiment)
        np.save(f"{published}.latents.npy", initial_noise(PROMPTS, 0, 16, 8, 8).numpy())
        images[str(published)] = {
            str(width): sample(network, encoders, PROMPTS, width, experiment.sampling)
            for width in experiment.backbone.widths
        }
    referring = write_run(
        paper_run.path.parents[1], paper_overrides("carol/vae", "carol/clip", "carol/gemma"), "paper/referring"
    )
    assert main(["publish", str(referring.path), "--to", str(target / "referring")]) == 0
    folders = {path.name for path in (target / "referring").iterdir() if path.is_dir()}
    assert folders == {"run", "scheduler", "transformer"}
    shutil.copy(target / "paper.latents.npy", target / "referring.latents.npy")
    images[str(target / "referring")] = images[str(target / "paper")]
    return images


def run_python(program: str, home: Path, hub: StandInHub) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_HUB_OFFLINE")}
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=home,
        env={**environment, "HF_HOME": str(home), "HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        timeout=160,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def require_equal_images(expected: dict[str, Any]) -> None:
    for folder, by_width in expected.items():
        actual = np.load(f"{folder}.images.npz")
        assert set(actual) == set(by_width)
        for width, images in by_width.items():
            theirs = torch.from_numpy(actual[width]).permute(0, 3, 1, 2) * 2 - 1
            error = float((images - theirs).square().mean())
            assert images.std() > 0.01
            assert 10 * np.log10(4 / max(error, 1e-30)) > 50, (folder, width)
        Path(f"{folder}.images.npz").unlink()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which only the wheel is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_images_equal_in_an_environment_with_the_wheel(
    expected: dict[str, Any], site: Path, tmp_path: Path, encoder_hub: StandInHub
) -> None:
    program = WITH_PACKAGE.format(site=str(site), prompts=PROMPTS, folders=list(expected), program=PROGRAM)
    run_python(program, tmp_path, encoder_hub)
    require_equal_images(expected)


@pytest.mark.slow
def test_images_equal_without_the_package(expected: dict[str, Any], tmp_path: Path, encoder_hub: StandInHub) -> None:
    shim = str(ROOT / "platform" / "pocketdit" / "torchvision_cpu.py")
    program = WITHOUT_PACKAGE.format(shim=shim, prompts=PROMPTS, folders=list(expected), program=PROGRAM)
    run_python(program, tmp_path, encoder_hub)
    require_equal_images(expected)
