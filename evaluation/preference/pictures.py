"""The image files of a preference study, which are re-encoded without metadata and have random names."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from evaluation.contract import ImageArray, ImageSet, open_image
from evaluation.subjects.image_cache import is_complete
from pocketdit.files import write_atomically

FOLDER = "images"


def path_of(folder: Path, identifier: str) -> Path:
    """Return the path of an image in the folder of a study."""
    return folder / FOLDER / f"{identifier}.png"


def encode_subject(images: ImageSet, identifiers: dict[int, str], folder: Path, subject: str) -> None:
    """Encode the first image of every prompt, except those that have been encoded before.

    Args:
        images: The images of a subject.
        identifiers: Mapping from prompt indices to the identifiers of the images.
        folder: Folder of the study.
        subject: Name of the subject, for the progress bar.
    """
    targets = {index: path_of(folder, identifier) for index, identifier in identifiers.items()}
    missing = [index for index, target in targets.items() if not is_complete(target)]
    for index in tqdm(missing, desc=f"encoding {subject}", unit="image", disable=not missing):
        prompt = images.prompts.prompts[index]
        save(open_image(images.images[prompt.id][0]), targets[index])


def encode_noise(like: ImageSet, identifiers: dict[int, str], folder: Path, seed: int) -> None:
    """Encode images of uniform noise, with the sizes of a subject's images for the same prompts."""
    for index, identifier in identifiers.items():
        target = path_of(folder, identifier)
        if not is_complete(target):
            shape = open_image(like.images[like.prompts.prompts[index].id][0]).shape
            random = np.random.default_rng(list(repr(("noise", seed, index)).encode()))
            save(random.integers(0, 256, shape, dtype=np.uint8), target)


def save(image: ImageArray, target: Path) -> None:
    """Save pixels as a PNG file without any metadata."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "png")
    write_atomically(target, encoded.getvalue())
