"""Do the metrics move the right way? Drawn scenes, spoilt by degrees, through every embedded metric.

    python -m evaluation.scenes.sensitivity [--count 200] [--out docs/metrics.png]

Each spoiling has four strengths; at 0 the pictures are the scenes themselves. Swapped captions leave the set of
pictures as it is, so the Fréchet distance should not move with them: that line is a control.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from tqdm import tqdm

from datamodules.scenes.draw import draw
from datamodules.scenes.expectation import expectation
from datamodules.scenes.split import CaptionedScene, scenes
from evaluation.clip_score import ClipScore
from evaluation.contract import ImageSet, Picture, Prompt, PromptSet, open_picture
from evaluation.dpg.metric import DPGBench
from evaluation.frechet import Gaussian, frechet_distance
from evaluation.geneval.metric import GenEval
from evaluation.scenes.answerer import SceneAnswerer
from evaluation.scenes.clip import SceneClip
from evaluation.scenes.colors import SceneColorReader
from evaluation.scenes.detector import SceneDetector
from evaluation.scenes.features import SceneFeatures
from evaluation.scenes.prompts import scene_dpg
from pocketdit.errors import UserError

# Strengths: standard deviation in grey levels; radius in pixels; share of the captions; share of the pictures.
SPOILINGS: dict[str, tuple[float, ...]] = {
    "noise": (0, 20, 40, 80, 120),
    "blur": (0, 3, 6, 9, 12),
    "swapped captions": (0, 0.25, 0.5, 0.75, 1),
    "missing objects": (0, 0.25, 0.5, 0.75, 1),
}
METRICS = ("geneval (scene-rules)", "dpg (scene-rules, corrected)", "clip-score (scene-clip)", "fd (scene-features)")
REFERENCE_SEED = 99  # other scenes than those that are spoilt

Curves = dict[str, dict[str, list[float]]]


def spoil(samples: Sequence[CaptionedScene], spoiling: str, strength: float) -> list[Picture]:
    """The scenes' pictures, spoilt; what a larger strength spoils includes what a smaller one does."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(samples))
    hit = {int(i) for i in order[: round(strength * len(samples))]} if strength <= 1 else set()
    pictures = []
    for i, sample in enumerate(samples):
        scene = sample.scene
        if spoiling == "missing objects" and i in hit:
            scene = type(scene)(scene.width, scene.height, scene.background, scene.objects[1:])
        image = draw(scene)
        if spoiling == "blur":
            image = image.filter(ImageFilter.GaussianBlur(strength))
        picture = np.asarray(image)
        if spoiling == "noise":
            noisy = picture + strength * rng.standard_normal(picture.shape)
            picture = np.clip(np.round(noisy), 0, 255).astype(np.uint8)
        pictures.append(picture)
    if spoiling == "swapped captions" and len(hit) > 1:
        turned = sorted(hit)
        for place, picture in zip(turned, [pictures[i] for i in turned[1:] + turned[:1]], strict=True):
            pictures[place] = picture
    return pictures


def measure(count: int, seed: int = 3) -> Curves:
    """{spoiling: {metric: values by strength}} over ``count`` validation scenes."""
    if count < 10:
        raise UserError(f"--count {count}: at least 10")
    samples, questions = distinct_shapes(count, seed)
    short = PromptSet(
        "scenes", tuple(Prompt(p.id, s.captions[0], expectation(s.captions[0]))
                        for p, s in zip(questions.prompts, samples, strict=True))
    )  # fmt: skip
    features = SceneFeatures()
    others = [np.asarray(draw(sample.scene)) for sample in scenes("train", max(500, count), REFERENCE_SEED)]
    reference = Gaussian.from_samples(features.encode_pictures(others))
    scored = (
        (short, GenEval("scenes", SceneDetector(), SceneColorReader())),
        (questions, DPGBench("scenes", SceneAnswerer(), "corrected")),
        (short, ClipScore("scenes", SceneClip())),
    )
    curves: Curves = {name: {metric: [] for metric in METRICS} for name in SPOILINGS}
    work = [(name, strength) for name, strengths in SPOILINGS.items() for strength in strengths]
    with tempfile.TemporaryDirectory() as folder:
        for name, strength in tqdm(work, desc="spoiling", unit="set"):
            paths = {}
            for prompt, picture in zip(short.prompts, spoil(samples, name, strength), strict=True):
                paths[prompt.id] = (Path(folder) / f"{prompt.id}.png",)
                Image.fromarray(picture).save(paths[prompt.id][0])
            values = [m.score(ImageSet(prompts, paths, {})).scores["overall"].value for prompts, m in scored]
            encoded = features.encode_pictures([open_picture(path) for (path,) in paths.values()])
            values.append(frechet_distance(Gaussian.from_samples(encoded), reference))
            for metric, value in zip(METRICS, values, strict=True):
                curves[name][metric].append(value)
    return curves


def distinct_shapes(count: int, seed: int) -> tuple[list[CaptionedScene], PromptSet]:
    """Scenes, and DPG-Bench's questions about them, of no two objects that differ in colour alone.

    GenEval looks at the best detection of a class alone, and cannot tell "a red circle and a blue circle".
    """
    several = 2 * count
    questions = scene_dpg(several, seed)
    pairs = [
        (sample, prompt)
        for sample, prompt in zip(scenes("validation", several, seed), questions.prompts, strict=True)
        if len({item.shape for item in sample.scene.objects}) == len({item.kind for item in sample.scene.objects})
    ][:count]
    return [sample for sample, _ in pairs], replace(questions, prompts=tuple(prompt for _, prompt in pairs))


def plot(curves: Curves, count: int, out: Path) -> None:
    """One panel a metric, one line a spoiling; examples of each spoiling below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(15, 7.5), height_ratios=(3, 1.3))
    for axis, metric in zip(axes[0], METRICS, strict=True):
        for name in SPOILINGS:
            axis.plot(range(5), curves[name][metric], marker="o", label=name)
        axis.set_title(f"{metric} ({'lower' if metric.startswith('fd') else 'higher'} is better)", fontsize=10)
        axis.set_xticks(range(5))
        axis.set_xlabel("strength")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=9)
    samples = [sample for sample in scenes("validation", 40, 3) if sample.scene.width == 128][:5]
    for axis, (name, strengths) in zip(axes[1], SPOILINGS.items(), strict=True):
        shown = [spoil(samples, name, strength)[0 if name != "missing objects" else i % 5]
                 for i, strength in enumerate(strengths)]  # fmt: skip
        axis.imshow(np.concatenate(shown, axis=1))
        axis.set_title(f"{name}: {', '.join(f'{strength:g}' for strength in strengths)}", fontsize=9)
        axis.axis("off")
    figure.suptitle(f"Embedded metrics on {count} drawn scenes, spoilt by degrees", fontsize=12)
    figure.tight_layout()
    figure.savefig(out, dpi=80)
    plt.close(figure)


def table(curves: Curves) -> str:
    lines = [f"{'spoiling':18}{'metric':28}by strength"]
    for name, by_metric in curves.items():
        lines += [
            f"{name:18}{metric:28}{'  '.join(f'{v:8.3f}' for v in values)}" for metric, values in by_metric.items()
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("docs/metrics.png"))
    chosen = parser.parse_args(arguments)
    curves = measure(chosen.count)
    print(table(curves))
    plot(curves, chosen.count, chosen.out)
    print(f"picture: {chosen.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
