"""Sample pictograms from words that training captions never contain, and count how many images are correct.

    python -m benchmarks.synonyms emoji_pretrain emoji_hashed [--width 1] [--images 2] [--json PATH]

Every synonym names a pictogram of the catalog by another word ("puppy" for "dog"). An image is correct if the rules of
``evaluation/pictograms`` find this pictogram and nothing else. Prompts with the catalog's own names show how well the
run samples these pictograms at all.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.timing import table, write_result
from datamodules.pictograms.captions import with_article
from datamodules.pictograms.catalog import CATALOG
from evaluation.contract import Prompt
from evaluation.pictograms.judge import first_error
from evaluation.subjects.run import Run
from pocketdit.encoders.word_tokens import split_words
from pocketdit.errors import UserError

SYNONYMS: dict[str, tuple[str, ...]] = {
    "dog": ("puppy", "hound", "canine"),
    "cat": ("kitten", "feline", "kitty"),
    "horse": ("pony", "stallion", "mare"),
    "cow": ("calf", "cattle"),
    "pig": ("hog", "piglet", "swine"),
    "rabbit": ("bunny", "hare"),
    "elephant": ("mammoth",),
    "lion": ("lioness",),
    "frog": ("toad",),
    "duck": ("mallard",),
    "chicken": ("hen", "rooster"),
    "turtle": ("tortoise",),
    "snail": ("slug",),
    "fish": ("trout", "salmon"),
    "octopus": ("squid",),
    "butterfly": ("moth",),
    "bee": ("wasp", "honeybee"),
    "ladybug": ("beetle",),
    "bear": ("grizzly",),
    "bicycle": ("bike",),
    "car": ("automobile", "sedan"),
    "taxi": ("cab",),
    "fire engine": ("fire truck",),
    "steam train": ("locomotive",),
    "helicopter": ("chopper",),
    "airplane": ("plane", "aircraft", "jet"),
    "rocket": ("spaceship", "spacecraft"),
    "sailboat": ("yacht", "ship"),
    "umbrella": ("parasol",),
    "light bulb": ("lamp",),
    "pencil": ("pen", "crayon"),
    "phone": ("smartphone", "cellphone", "telephone"),
    "chair": ("seat", "stool"),
    "house": ("home", "cottage"),
    "castle": ("fortress", "palace"),
    "crown": ("tiara",),
    "dress": ("gown",),
    "shirt": ("blouse",),
    "soccer ball": ("football",),
    "gift": ("present",),
    "teapot": ("kettle",),
    "wine glass": ("goblet",),
    "bucket": ("pail",),
    "backpack": ("rucksack", "knapsack"),
    "diamond": ("gem", "jewel"),
    "robot": ("android",),
    "ghost": ("phantom", "spirit"),
    "eggplant": ("aubergine",),
    "hamburger": ("burger", "cheeseburger"),
    "donut": ("doughnut",),
    "cupcake": ("muffin",),
    "mushroom": ("toadstool",),
}


def known_words() -> set[str]:
    """Return all words in the names of the catalog, in the singular and in the plural."""
    names = [name for pictogram in CATALOG.values() for name in (pictogram.name, pictogram.plural)]
    return {word for name in names for word in split_words(name)}


def prompts_for(names: Mapping[str, Sequence[str]]) -> list[Prompt]:
    """Return a prompt for every word, with the pictogram that it requests as metadata in GenEval's format.

    Args:
        names: Mapping from the name of each pictogram in the catalog to the words that request it.
    """
    return [
        Prompt(f"{name}-{word}".replace(" ", "_"), with_article(word), {"include": [{"class": name, "count": 1}]})
        for name, words in names.items()
        for word in words
    ]


def share_right(run: Run, prompts: Sequence[Prompt], images_each: int) -> tuple[float, list[str]]:
    """Return the share of correct images, and the prompts for which most images are correct."""
    right = {prompt.id: 0 for prompt in prompts}
    for number in range(images_each):
        for prompt, image in run.sample(prompts, number):
            right[prompt.id] += first_error(image, prompt.metadata) is None
    texts = {prompt.id: prompt.text for prompt in prompts}
    return sum(right.values()) / images_each / len(prompts), [texts[p] for p, n in right.items() if 2 * n > images_each]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="run", help="runs to compare")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    parser.add_argument("--width", type=float, default=1.0, help="width (default: %(default)s)")
    parser.add_argument("--images", type=int, default=2, help="images per word (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args(arguments)
    synonyms, originals = prompts_for(SYNONYMS), prompts_for({name: (name,) for name in SYNONYMS})
    rows: list[dict[str, Any]] = []
    try:
        for name in args.names:
            run = Run(name, width=args.width, runs=args.runs)
            own, _ = share_right(run, originals, args.images)
            other, understood = share_right(run, synonyms, args.images)
            encoders = [component.class_path.rpartition(".")[2] for component in run.experiment.text_encoders]
            rows.append({"run": run.folder.name, "encoders": encoders, "own name": own, "synonym": other,
                         "understood": understood})  # fmt: skip
    except UserError as error:
        print(f"synonyms: {error}", file=sys.stderr)
        return error.status
    cells = [
        [row["run"], " + ".join(row["encoders"]), f"{row['own name']:.2f}", f"{row['synonym']:.2f}"] for row in rows
    ]
    header = ["run", "text encoders", f"{len(originals)} own names", f"{len(synonyms)} synonyms"]
    print(table(header, cells))
    for row in rows:
        print(f"{row['run']} understands: {', '.join(row['understood']) or 'none'}")
    write_result({"width": args.width, "images_each": args.images, "rows": rows}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
