"""Compare the images of export bundles with those of their run, and show the differences in a picture.

Each bundle generates its images alone, in the runtime for its format. The run samples the same prompts at the bundle's
width, starting from the same noise. The picture has three rows per bundle: the run's images, the bundle's images, and
ten times their absolute difference.

    python -m benchmarks.device_samples RUN BUNDLE... [--out PNG] [--runs FOLDER] [--decoder RUN] [--prompts N]

Prints a table of sizes, speeds and peak signal-to-noise ratios (PSNR). The exit status is 1 unless every PSNR is above
35 dB. ``make device`` runs this for every width of the four-step model.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from pocketdit.artifacts.run_folder import find, load_experiment
from pocketdit.errors import ConfigError, UserError
from pocketdit.export.app.bundle import Bundle, open_bundle
from pocketdit.export.app.draw import draw, require_drawable
from pocketdit.export.app.runtimes import load_runtime
from pocketdit.files import write_atomically
from pocketdit.running.grids import image_grid
from pocketdit.running.model import Model, load_model

REQUIRED = 35.0
"""Required PSNR in dB."""
MAGNIFICATION = 10


@dataclass(frozen=True)
class Drawn:
    """The images that a bundle and its run generated, as uint8 (B, 3, H, W).

    Attributes:
        bundle: The bundle.
        expected: The run's images.
        actual: The bundle's images.
        seconds: Time that the bundle took per image, including loading.
    """

    bundle: Bundle
    expected: Tensor
    actual: Tensor
    seconds: float

    @property
    def label(self) -> str:
        manifest = self.bundle.manifest
        return f"{manifest['network']['width']:g}x {manifest['kind']}"

    @property
    def difference(self) -> Tensor:
        """The absolute difference between the images times ``MAGNIFICATION``, clamped to 255."""
        difference = (self.actual.int() - self.expected.int()).abs() * MAGNIFICATION
        return difference.clamp(max=255).to(torch.uint8)

    @property
    def psnr(self) -> float:
        """PSNR in dB over all images together; infinite if the images are equal."""
        error = (self.actual.double() - self.expected.double()).square().mean()
        return float(10 * torch.log10(255**2 / error))


def compare(model: Model, bundle: Bundle, prompts: Sequence[str], seed: int) -> Drawn:
    """Generate an image for each prompt with a bundle and with its run.

    Raises:
        ConfigError: The bundle was exported from another run, or is incomplete.
    """
    manifest = bundle.manifest
    if manifest["weights"]["sha256"] != model.weights["weights_sha256"]:
        raise ConfigError(f"{bundle.folder}: was not exported from the weights of {model.name}; export it again")
    require_drawable(bundle)
    size = (manifest["image"]["height"], manifest["image"]["width"])
    sampling = replace(model.experiment.sampling, seed=seed, size=size, noise="portable")
    expected = model.sample(prompts, manifest["network"]["width"], sampling)
    started = time.perf_counter()
    run = load_runtime(bundle)
    actual = torch.stack([draw(bundle, run, prompt, seed, bundle.times) for prompt in prompts])
    return Drawn(bundle, expected, actual, (time.perf_counter() - started) / len(prompts))


def picture(drawn: Sequence[Drawn], prompts: Sequence[str], out: Path) -> None:
    """Write the picture of all images and their differences as a PNG file."""
    rows = [images for d in drawn for images in (d.expected, d.actual, d.difference)]
    labels = [label for d in drawn for label in (f"{d.label.split()[0]} run", d.label, f"difference x{MAGNIFICATION}")]
    grid = image_grid(rows, labels, prompts)
    write_atomically(out, lambda temporary: grid.save(temporary, format="PNG"))


def megabytes(bundle: Bundle, package: str = "") -> float:
    """Return the size of a bundle or of one of its packages in MB (10^6 bytes)."""
    prefix = bundle.manifest["packages"][package]["file"] if package else ""
    files: dict[str, dict[str, int]] = bundle.manifest["files"]
    return sum(entry["bytes"] for name, entry in files.items() if name.startswith(prefix)) / 1e6


def report(drawn: Sequence[Drawn]) -> str:
    """Return the table of sizes, speeds and PSNRs."""
    rows = [
        [d.label, d.bundle.manifest["settings"]["precision"], megabytes(d.bundle), megabytes(d.bundle, "transformer"),
         d.seconds, d.psnr]
        for d in drawn
    ]  # fmt: skip
    headers = ["bundle", "precision", "MB", "transformer MB", "seconds per image", "PSNR dB"]
    return tabulate(rows, headers=headers, floatfmt=("", "", ".2f", ".2f", ".2f", ".1f"))


def run(arguments: argparse.Namespace) -> int:
    """Compare all bundles with the run, and return the exit status."""
    folder = find(arguments.runs, arguments.run)
    model = load_model(folder, load_experiment(folder), device="cpu")
    if arguments.decoder:
        model = model.with_decoder(find(arguments.runs, arguments.decoder))
    prompts = model.experiment.sampling.prompts[: arguments.prompts]
    drawn = [compare(model, open_bundle(path), prompts, arguments.seed) for path in arguments.bundles]
    print(report(drawn))
    picture(drawn, prompts, arguments.out)
    print(arguments.out)
    failed = [d for d in drawn if not d.psnr > REQUIRED]
    for d in failed:
        print(f"{d.bundle.folder}: the PSNR is {d.psnr:.1f} dB, but must be above {REQUIRED:g} dB", file=sys.stderr)
    return 1 if failed else 0


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare the images of export bundles with those of their run.")
    parser.add_argument("run", help="path of a run, EXPERIMENT/RUN, or EXPERIMENT for its latest run")
    parser.add_argument("bundles", nargs="+", type=Path, metavar="bundle", help="folders of export bundles")
    parser.add_argument("--out", type=Path, default=Path("device.png"), help="PNG file to write (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    parser.add_argument("--decoder", help="run whose tiny decoder the bundles contain")
    parser.add_argument("--prompts", type=int, default=4, metavar="N", help="number of prompts (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")
    try:
        return run(parser.parse_args(words))
    except UserError as error:
        print(error, file=sys.stderr)
        return error.status


if __name__ == "__main__":
    sys.exit(main())
