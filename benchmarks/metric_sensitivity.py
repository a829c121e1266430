"""Check that the embedded metrics respond to image corruptions in the right direction.

    python benchmarks/metric_sensitivity.py [--count 200] [--out docs/images/metrics.png]

Rendered scenes are corrupted in four ways at increasing strength and scored with four embedded metrics. Strength 0
leaves the images unchanged. As a control, the Fréchet distance must not respond to swapped captions, because swapping
captions does not change the set of images.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from tabulate import tabulate
from tqdm import tqdm

from datamodules.scenes.expectation import parse_expectation
from datamodules.scenes.render import render_scene
from datamodules.scenes.split import CaptionedScene, generate_scenes
from evaluation.contract import ImageArray, ImageSet, Prompt, PromptSet, open_image
from evaluation.metrics.clip_score import ClipScore
from evaluation.metrics.dpg.metric import DPGBench
from evaluation.metrics.frechet import Gaussian, frechet_distance
from evaluation.metrics.geneval.metric import GenEval
from evaluation.scenes.encoders.clip import SceneClip
from evaluation.scenes.encoders.features import SceneFeatures
from evaluation.scenes.judges.answerer import SceneAnswerer
from evaluation.scenes.judges.colors import SceneColorReader
from evaluation.scenes.judges.detector import SceneDetector
from evaluation.scenes.prompts.benchmarks import scene_dpg
from pocketdit.errors import UserError

# A strength is a standard deviation in gray levels (noise), a radius in pixels (blur), or a share of the images.
CORRUPTIONS: dict[str, tuple[float, ...]] = {
    "noise": (0, 20, 40, 80, 120),
    "blur": (0, 3, 6, 9, 12),
    "swapped captions": (0, 0.25, 0.5, 0.75, 1),
    "missing objects": (0, 0.25, 0.5, 0.75, 1),
}
METRICS = ("geneval (scene-rules)", "dpg (scene-rules, corrected)", "clip-score (scene-clip)", "fd (scene-features)")
REFERENCE_SEED = 99  # differs from the seed of the corrupted scenes

Curves = dict[str, dict[str, list[float]]]


def corrupt(samples: Sequence[CaptionedScene], corruption: str, strength: float) -> list[ImageArray]:
    """Render the scenes with one of ``CORRUPTIONS``.

    If the strength is a share, the scenes affected at a larger share include those affected at a smaller one.
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(len(samples))
    affected = {int(i) for i in order[: round(strength * len(samples))]} if strength <= 1 else set()
    images = []
    for i, sample in enumerate(samples):
        scene = sample.scene
        if corruption == "missing objects" and i in affected:
            scene = replace(scene, objects=scene.objects[1:])
        rendered = render_scene(scene)
        if corruption == "blur":
            rendered = rendered.filter(ImageFilter.GaussianBlur(strength))
        image = np.asarray(rendered)
        if corruption == "noise":
            noisy = image + strength * rng.standard_normal(image.shape)
            image = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
        images.append(image)
    if corruption == "swapped captions" and len(affected) > 1:
        swapped = sorted(affected)
        for target, image in zip(swapped, [images[i] for i in swapped[1:] + swapped[:1]], strict=True):
            images[target] = image
    return images


def measure(count: int, seed: int = 3) -> Curves:
    """Score ``count`` validation scenes under every corruption.

    Returns:
        {corruption: {metric: [one value per strength]}}.

    Raises:
        UserError: ``count`` is less than 10.
    """
    if count < 10:
        raise UserError(f"--count {count}: must be at least 10")
    samples, questions = scenes_with_distinct_shapes(count, seed)
    short = PromptSet(
        "scenes",
        tuple(
            Prompt(prompt.id, sample.captions[0], parse_expectation(sample.captions[0]))
            for prompt, sample in zip(questions.prompts, samples, strict=True)
        ),
    )
    features = SceneFeatures()
    reference_images = [
        np.asarray(render_scene(sample.scene)) for sample in generate_scenes("train", max(500, count), REFERENCE_SEED)
    ]
    reference = Gaussian.from_samples(features.encode_images(reference_images))
    metrics = (
        (short, GenEval("scenes", SceneDetector(), SceneColorReader())),
        (questions, DPGBench("scenes", SceneAnswerer(), "corrected")),
        (short, ClipScore("scenes", SceneClip())),
    )
    curves: Curves = {name: {metric: [] for metric in METRICS} for name in CORRUPTIONS}
    settings = [(name, strength) for name, strengths in CORRUPTIONS.items() for strength in strengths]
    with tempfile.TemporaryDirectory() as folder:
        for name, strength in tqdm(settings, desc="scoring", unit="set"):
            paths = {}
            for prompt, image in zip(short.prompts, corrupt(samples, name, strength), strict=True):
                paths[prompt.id] = (Path(folder) / f"{prompt.id}.png",)
                Image.fromarray(image).save(paths[prompt.id][0])
            values = [metric.score(ImageSet(prompts, paths, {})).scores["overall"].value for prompts, metric in metrics]
            encoded = features.encode_images([open_image(path) for (path,) in paths.values()])
            values.append(frechet_distance(Gaussian.from_samples(encoded), reference))
            for metric_name, value in zip(METRICS, values, strict=True):
                curves[name][metric_name].append(value)
    return curves


def scenes_with_distinct_shapes(count: int, seed: int) -> tuple[list[CaptionedScene], PromptSet]:
    """Return scenes in which no two objects differ only in color, with DPG-Bench questions about each scene.

    GenEval looks only at the best detection of a class, so it cannot judge "a red circle and a blue circle".
    """
    candidates = 2 * count
    questions = scene_dpg(candidates, seed)
    pairs = [
        (sample, prompt)
        for sample, prompt in zip(generate_scenes("validation", candidates, seed), questions.prompts, strict=True)
        if len({item.shape for item in sample.scene.objects}) == len({item.kind for item in sample.scene.objects})
    ][:count]
    return [sample for sample, _ in pairs], replace(questions, prompts=tuple(prompt for _, prompt in pairs))


def plot(curves: Curves, count: int, out: Path) -> None:
    """Plot one panel per metric with one line per corruption, and examples of each corruption below them."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(15, 7.5), height_ratios=(3, 1.3))
    for axis, metric in zip(axes[0], METRICS, strict=True):
        for name in CORRUPTIONS:
            axis.plot(range(5), curves[name][metric], marker="o", label=name)
        axis.set_title(f"{metric} ({'lower' if metric.startswith('fd') else 'higher'} is better)", fontsize=10)
        axis.set_xticks(range(5))
        axis.set_xlabel("strength")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=9)
    samples = [sample for sample in generate_scenes("validation", 40, 3) if sample.scene.width == 128][:5]
    for axis, (name, strengths) in zip(axes[1], CORRUPTIONS.items(), strict=True):
        examples = [
            corrupt(samples, name, strength)[0 if name != "missing objects" else i % 5]
            for i, strength in enumerate(strengths)
        ]
        axis.imshow(np.concatenate(examples, axis=1))
        axis.set_title(f"{name}: {', '.join(f'{strength:g}' for strength in strengths)}", fontsize=9)
        axis.axis("off")
    figure.suptitle(f"Embedded metrics on {count} rendered scenes with corruptions of increasing strength", fontsize=12)
    figure.tight_layout()
    figure.savefig(out, dpi=80)
    plt.close(figure)


def format_table(curves: Curves) -> str:
    """Return the curves as a text table with one row per corruption and metric."""
    rows = [[name, metric, *values] for name, by_metric in curves.items() for metric, values in by_metric.items()]
    strengths = [f"strength {i}" for i in range(5)]
    return tabulate(rows, ["corruption", "metric", *strengths], floatfmt=".3f")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="number of scenes (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/images/metrics.png"), help="PNG file of the plot (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    try:
        curves = measure(args.count)
    except UserError as error:
        print(f"metric_sensitivity: {error}", file=sys.stderr)
        return error.status
    print(format_table(curves))
    plot(curves, args.count, args.out)
    print(f"plot: {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
