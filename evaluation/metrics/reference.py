"""Reference statistics: features of real images, computed once and stored in a file.

The file records the feature network, its resizing and the number of images. Loading the file for a different network is
an error.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from evaluation.contract import Backend, ImageArray, ImageEncoder
from evaluation.metrics.frechet import Floats, Gaussian, statistics
from evaluation.metrics.image_source import open_source
from pocketdit.errors import UserError
from pocketdit.files import write_atomically

SCHEMA = 1
_STORED_FEATURES = 10_000  # for the kernel distance, which by default uses subsets of 1000 images
_BATCH = 32


@dataclass(frozen=True)
class Reference:
    """Statistics of real images.

    Attributes:
        name: Name of the file, without its suffix.
        source: Name of the data set and its split, or of the folder, followed by a fingerprint of the images.
        encoder: Name of the feature network.
        version: Version of the feature network, including its resizing.
        samples: Number of images from which ``mean`` and ``covariance`` are computed.
        mean: Mean (D,) of the features.
        covariance: Covariance (D, D) of the features.
        features: Features (K, D) of all images or of 10,000 random ones.
    """

    name: str
    source: str
    encoder: str
    version: str
    samples: int
    mean: Floats
    covariance: Floats
    features: NDArray[np.float32]

    def gaussian(self) -> Gaussian:
        """Return the Gaussian of all images. If the features of all images are stored, it is fitted to the features."""
        if len(self.features) == self.samples:
            return Gaussian.from_samples(self.features)
        return Gaussian.from_moments(self.mean, self.covariance)


def encode_all(images: Iterable[ImageArray], encoder: ImageEncoder) -> NDArray[np.float32]:
    """Return the features (N, D) of a stream of images.

    Only one batch of images is in memory at a time.

    Raises:
        UserError: The stream is empty.
    """
    parts: list[NDArray[np.float32]] = []
    batch: list[ImageArray] = []
    for image in images:
        batch.append(image)
        if len(batch) == _BATCH:
            parts.append(encoder.encode_images(batch))
            batch = []
    if batch:
        parts.append(encoder.encode_images(batch))
    if not parts:
        raise UserError("there are no images to compute features from")
    return np.concatenate(parts)


def build_reference(
    path: Path, encoder: ImageEncoder, name: str, *, split: str = "train", samples: int = 50_000, seed: int = 0
) -> Reference:
    """Compute the statistics of a data set or folder.

    Args:
        path: Sharded data set, or folder of images.
        encoder: The feature network.
        name: Name of the reference.
        split: Split of the data set.
        samples: Maximum number of images, drawn without replacement; DINO-FID uses 50,000.
        seed: Seed for drawing the images.

    Raises:
        UserError: There are fewer than 2 images, an image cannot be decoded, or features are not finite.
    """
    source = open_source(path, split)
    if source.left_out:
        print(f"{path}: {len(source.left_out)} files or folders are not in the reference, such as {source.left_out[0]}")
    rows = _choose_rows(source.count, samples, seed)
    progress = tqdm(rows, desc=f"reference {source.name}", unit="image")
    features = encode_all((source.read(row) for row in progress), encoder)
    mean, covariance = statistics(features)
    return Reference(
        name=name,
        source=f"{source.name}, {source.fingerprint}",
        encoder=encoder.backend.name,
        version=encoder.backend.version,
        samples=len(features),
        mean=mean,
        covariance=covariance,
        features=features[_choose_rows(len(features), _STORED_FEATURES, seed)],
    )


def save_reference(reference: Reference, folder: Path) -> Path:
    """Write folder/NAME.safetensors atomically and return its path."""
    from safetensors.numpy import save

    about = {
        "schema": SCHEMA,
        "source": reference.source,
        "encoder": reference.encoder,
        "version": reference.version,
        "samples": reference.samples,
    }
    tensors = {"mean": reference.mean, "covariance": reference.covariance, "features": reference.features}
    content = save({key: np.ascontiguousarray(value) for key, value in tensors.items()}, {"about": json.dumps(about)})
    return write_atomically(folder / f"{reference.name}.safetensors", content)


def load_reference(path: Path, backend: Backend) -> Reference:
    """Read a file written by ``save_reference``.

    Raises:
        UserError: The file is missing or not a reference, or was computed with a different network, different
            weights or a different resizing than ``backend``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about: dict[str, Any] = json.loads(file.metadata()["about"])
            tensors = {key: file.get_tensor(key) for key in ("mean", "covariance", "features")}
        if about["schema"] != SCHEMA:
            raise UserError(
                f"{path}: the reference has schema {about['schema']}, but this version reads {SCHEMA}; delete the file "
                "to recompute it"
            )
        fields = {key: about[key] for key in ("source", "encoder", "version", "samples")}
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such reference file; use a data set or a folder of images to compute one"
        ) from error
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a reference ({error}); delete the file to recompute it") from error
    requested, stored = f"{backend.name} ({backend.version})", f"{fields['encoder']} ({fields['version']})"
    if requested != stored:
        raise UserError(f"{path}: computed with {stored}, but the metric uses {requested}; use the same for both")
    dimensions = tensors["mean"].size
    if tensors["covariance"].shape != (dimensions, dimensions) or tensors["features"].shape[1:] != (dimensions,):
        raise UserError(
            f"{path}: mean, covariance and features have different dimensions; delete the file to recompute it"
        )
    return Reference(name=path.stem, **fields, **tensors)


def reference_for(
    path: Path,
    encoder: ImageEncoder,
    kept: Path,
    *,
    split: str = "train",
    samples: int = 50_000,
    seed: int = 0,
) -> Reference:
    """Load a reference file, or compute the reference of a data set or folder on first use and store it.

    The name of the stored file contains a hash of the images, the network and the sampling settings. If any of them
    changes, the reference is computed again.

    Args:
        path: Sharded data set, folder of images, or .safetensors file.
        encoder: The feature network.
        kept: Folder for computed references.
        split: See ``build_reference``.
        samples: See ``build_reference``.
        seed: See ``build_reference``.

    Raises:
        UserError: See ``build_reference`` and ``load_reference``.
    """
    if path.suffix == ".safetensors":
        return load_reference(path, encoder.backend)
    if not path.is_dir():
        raise UserError(
            f"{path}: no such folder or reference; use a data set, a folder of images or a .safetensors file"
        )
    source, backend = open_source(path, split), encoder.backend
    key = json.dumps([source.name, source.fingerprint, backend.name, backend.version, samples, seed])
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    name = re.sub(r"[^\w-]+", "-", f"{source.name}-{backend.name}-{digest}")
    if not (kept / f"{name}.safetensors").is_file():
        save_reference(build_reference(path, encoder, name, split=split, samples=samples, seed=seed), kept)
    return load_reference(kept / f"{name}.safetensors", backend)


def _choose_rows(count: int, limit: int, seed: int) -> NDArray[np.intp]:
    """Return all row numbers below ``count``, or ``limit`` random ones, in ascending order."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
