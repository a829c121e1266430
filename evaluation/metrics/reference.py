"""What generated pictures are compared with: features of real ones, taken once and kept in a file of its own.

The source is a data set in this project's shards or a folder of pictures. The file says by which network, in which
resizing and from how many pictures it was made, and is refused where another network asks for it.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from evaluation.contract import Backend, ImageArray, ImageEncoder, open_image
from evaluation.metrics.frechet import Floats, Gaussian, statistics
from pocketdit.errors import UserError
from pocketdit.files import write_atomically

SCHEMA = 1
EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp")
_KEPT = 10_000  # samples for the kernel distance, whose subsets have a thousand
_BATCH = 32


@dataclass(frozen=True)
class Reference:
    """Statistics of real pictures.

    Attributes:
        name: of the file; ``source``: of the data set or folder, with its split and fingerprint.
        encoder, version: of the feature network's backend; the version tells its resizing.
        samples: pictures behind ``mean`` (D,) and ``covariance`` (D, D).
        features: (K, D) of them, all or a random 10 000.
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
        if len(self.features) == self.samples:
            return Gaussian.from_samples(self.features)
        return Gaussian.from_moments(self.mean, self.covariance)


@dataclass(frozen=True)
class Source:
    """Pictures by number. ``fingerprint`` changes when they do."""

    name: str
    fingerprint: str
    count: int
    picture: Callable[[int], ImageArray]


def open_source(path: Path, split: str = "train") -> Source:
    """A data set in shards (a folder with dataset.json) or a folder with pictures in it or below it.

    ``split``: of the data set; a plain folder has none.

    Raises:
        UserError: nothing there, or a data set of latents.
    """
    if (path / "dataset.json").is_file():
        return _shards(path, split)
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS)
    if not files:
        raise UserError(f"{path}: no pictures ({', '.join(EXTENSIONS)}) and no data set to take a reference from")
    listing = [(str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:16]
    return Source(path.resolve().name, digest, len(files), lambda number: open_image(files[number]))


def encode_all(pictures: Iterable[ImageArray], encoder: ImageEncoder) -> NDArray[np.float32]:
    """Features (N, D) of a stream of pictures, of which only a batch is held at a time; ``UserError`` for none."""
    parts: list[NDArray[np.float32]] = []
    batch: list[ImageArray] = []
    for picture in pictures:
        batch.append(picture)
        if len(batch) == _BATCH:
            parts.append(encoder.encode_images(batch))
            batch = []
    if batch:
        parts.append(encoder.encode_images(batch))
    if not parts:
        raise UserError("there are no pictures to take features of")
    return np.concatenate(parts)


def build_reference(
    path: Path, encoder: ImageEncoder, name: str, *, split: str = "train", samples: int = 50_000, seed: int = 0
) -> Reference:
    """Of at most ``samples`` pictures, drawn without replacement where there are more; 50 000 are DINO-FID's.

    Raises:
        UserError: no pictures, fewer than 2, one that does not decode, or features that are not finite.
    """
    source = open_source(path, split)
    rows = _drawn(source.count, samples, seed)
    progress = tqdm(rows, desc=f"reference {source.name}", unit="picture")
    features = encode_all((source.picture(row) for row in progress), encoder)
    mean, covariance = statistics(features)
    return Reference(
        name=name,
        source=f"{source.name}, {source.fingerprint}",
        encoder=encoder.backend.name,
        version=encoder.backend.version,
        samples=len(features),
        mean=mean,
        covariance=covariance,
        features=features[_drawn(len(features), _KEPT, seed)],
    )


def save_reference(reference: Reference, folder: Path) -> Path:
    """Writes folder/NAME.safetensors; the name appears when the file is complete."""
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
    """A file of ``save_reference``, made by the same feature network.

    Raises:
        UserError: no such file, not a reference, or made by another network, other weights or another resizing.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about: dict[str, Any] = json.loads(file.metadata()["about"])
            tensors = {key: file.get_tensor(key) for key in ("mean", "covariance", "features")}
        if about["schema"] != SCHEMA:
            raise UserError(f"{path}: reference of schema {about['schema']}, this program reads {SCHEMA}; make it anew")
        known = {key: about[key] for key in ("source", "encoder", "version", "samples")}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such reference; name a data set or a folder of pictures to make one") from error
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a reference ({error}); delete it and make it anew") from error
    asked, made = f"{backend.name} ({backend.version})", f"{known['encoder']} ({known['version']})"
    if asked != made:
        raise UserError(f"{path}: made by {made}, but the metric has {asked}; take one network for both")
    width = tensors["mean"].size
    if tensors["covariance"].shape != (width, width) or tensors["features"].shape[1:] != (width,):
        raise UserError(f"{path}: its mean, covariance and features have not one width; delete it and make it anew")
    return Reference(name=path.stem, **known, **tensors)


def reference_for(
    path: Path,
    encoder: ImageEncoder,
    kept: Path,
    *,
    split: str = "train",
    samples: int = 50_000,
    seed: int = 0,
) -> Reference:
    """From a reference's file; or of a data set or folder, made the first time and then found in ``kept``.

    The name under ``kept`` has a hash of the pictures, the network and the choice of samples: change one, and the
    reference is made anew. Raises ``UserError`` as the functions above.
    """
    if path.suffix == ".safetensors":
        return load_reference(path, encoder.backend)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder or reference; name a data set, a folder of pictures or a .safetensors")
    source, backend = open_source(path, split), encoder.backend
    key = json.dumps([source.name, source.fingerprint, backend.name, backend.version, samples, seed])
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    name = re.sub(r"[^\w-]+", "-", f"{source.name}-{backend.name}-{digest}")
    if not (kept / f"{name}.safetensors").is_file():
        save_reference(build_reference(path, encoder, name, split=split, samples=samples, seed=seed), kept)
    return load_reference(kept / f"{name}.safetensors", backend)


def _drawn(count: int, wanted: int, seed: int) -> NDArray[np.intp]:
    """All of ``count`` rows, or ``wanted`` random ones, in order."""
    if count <= wanted:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, wanted, replace=False))


def _shards(path: Path, split: str) -> Source:
    from datamodules.shards.decode import DECODE_ERRORS, open_image
    from datamodules.shards.index import load_index
    from datamodules.shards.reader import ShardReader
    from datamodules.shards.schema import SPLITS, SampleError, read_info

    info = read_info(path)
    if info.kind != "image":
        raise UserError(f"{path}: holds latents; a reference needs a data set of pictures")
    if split not in SPLITS:
        raise UserError(f"{path}: no split {split!r}; a data set has {' and '.join(SPLITS)}")
    index = load_index(path, split, info.kind)
    if not len(index):
        raise UserError(f"{path}: its {split} split has no usable picture; run 'lightning data validate'")
    reader = ShardReader(index)

    def picture(row: int) -> ImageArray:
        try:
            return np.asarray(open_image(reader.sample(row)).convert("RGB"))
        except (SampleError, *DECODE_ERRORS) as error:
            place = f"{path}: {index.place(row)}"
            raise UserError(f"{place}: a picture cannot be read ({error}); run 'lightning data validate'") from error

    return Source(f"{info.name}-{split}", f"{info.fingerprint}-{index.digest}", len(index), picture)
