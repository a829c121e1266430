"""``lightning sample BUNDLE``, which samples images with an export bundle alone, as an app does."""

import argparse
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from pocketdit.artifacts.notice import notice_in
from pocketdit.counts import counted
from pocketdit.errors import ConfigError
from pocketdit.export.app.bundle import Bundle, open_bundle
from pocketdit.names import require_unicode

REFUSED = {
    "file": "--prompts",
    "width": "--width",
    "sampler": "--sampler",
    "guidance": "--guidance",
    "seeds": "--seeds",
    "size": "--size",
    "noise": "--noise",
    "decoder": "--decoder",
}
"""Options that do not apply to a bundle, keyed by the names of their arguments."""
LARGEST_SEED = 2**64 - 1
MOST_STEPS = 10_000


def sample_bundle(args: argparse.Namespace, out: Path) -> None:
    """Check the options, then sample one image per prompt and write the images as a grid.

    Args:
        args: The parsed command line. ``args.run`` is the path of the bundle.
        out: Path of the PNG file.

    Raises:
        ConfigError: An option or a prompt is invalid or does not apply to a bundle, or the bundle is damaged or
            incomplete.
    """
    for name, option in REFUSED.items():
        if getattr(args, name) is not None:
            raise ConfigError(f"{option}: this is fixed when a bundle is exported; export the run again to change it")
    if not args.prompts:
        raise ConfigError('prompt: a bundle contains no default prompts; add a prompt, for example "a red circle"')
    for prompt in args.prompts:
        try:
            require_unicode(prompt)
        except ValueError as error:
            raise ConfigError(f"prompt: {error}") from None
    if args.steps is not None and args.steps > MOST_STEPS:
        raise ConfigError(f"--steps {args.steps}: must be at most {MOST_STEPS}")
    seed = args.seed or 0
    if not 0 <= seed <= LARGEST_SEED:
        raise ConfigError(f"--seed {seed}: must be from 0 to {LARGEST_SEED}")
    bundle = open_bundle(Path(args.run))
    times = sampling_times(bundle, args.steps)
    from pocketdit.export.app.draw import draw, has_separate_lora, require_drawable
    from pocketdit.export.app.runtimes import load_runtime

    require_drawable(bundle)
    notice = notice_in(bundle.folder)
    if args.lora_scale != 1 and not has_separate_lora(bundle):
        raise ConfigError("--lora-scale: the bundle has no separate LoRA; export a fine-tuned run with lora=kept")
    run = load_runtime(bundle)
    from torch import stack

    from pocketdit.files import write_atomically
    from pocketdit.running.grids import image_grid

    images = stack([draw(bundle, run, prompt, seed, times, args.lora_scale) for prompt in args.prompts])
    sampling, kind = bundle.manifest["sampling"], bundle.manifest["kind"]
    print(
        f"{bundle.manifest['name']}: {counted(len(images), 'image')}, {counted(len(times) - 1, 'sampling step')} "
        f"({sampling['sampler']}, {kind})"
    )
    text = PngInfo()
    if notice:
        text.add_itxt("Copyright", notice)
    grid = image_grid([images], [f"{bundle.manifest['network']['width']:g}x"], args.prompts)
    write_atomically(out, lambda temporary: grid.save(temporary, format="PNG", pnginfo=text))
    print(out)


def sampling_times(bundle: Bundle, steps: int | None) -> list[float]:
    """Return the sampling times for a number of steps, or the bundle's times if the number is None.

    Raises:
        ConfigError: The network was distilled to a fixed number of steps, and another number was requested.
    """
    sampling = bundle.manifest["sampling"]
    if steps is None or steps == sampling["steps"]:
        return bundle.times
    if sampling["fixed_steps"]:
        raise ConfigError(
            f"--steps {steps}: the network of {bundle.folder} was distilled to {counted(sampling['steps'], 'step')} "
            "and only works with this number"
        )
    from pocketdit.diffusion.samplers import uniform_times

    return uniform_times(steps, sampling["time_shift"])
