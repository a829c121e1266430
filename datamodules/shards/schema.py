"""The data format, version 1: a folder of WebDataset tars with one dataset.json.

    DATASET/dataset.json              what it is, how many samples, a fingerprint
    DATASET/train/00000.tar ...       a sample is a run of adjacent members with one key:
    DATASET/validation/00000.tar ...    KEY.json and KEY.png|jpg|jpeg|webp or KEY.latent.safetensors

KEY.json holds "id" (unique in the data set), "captions" (the short one first, longer ones after it), "width"
and "height" in pixels (of a latent: of the picture it stands for), and optionally "annotations" and "seed".
KEY.latent.safetensors holds one tensor "latent" (C, height / factor, width / factor), already normalised.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pocketdit.errors import UserError

VERSION = 1
SPLITS = ("train", "validation")
IMAGE_EXTENSIONS = ("png", "jpg", "jpeg", "webp")
LATENT_EXTENSION = "latent.safetensors"

Kind = Literal["image", "latent"]


class SampleError(Exception):
    """Why one sample cannot be used. Loaders skip and count it; it never ends a run."""


@dataclass(frozen=True)
class Sample:
    """One sample as stored: ``payload`` is the encoded image or latent, ``extension`` says which."""

    id: str
    captions: tuple[str, ...]
    width: int
    height: int
    payload: bytes = field(repr=False)
    extension: str
    annotations: dict[str, Any] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class DatasetInfo:
    """dataset.json. ``autoencoder`` describes what made the latents (None for images)."""

    kind: Kind
    name: str
    source: str
    samples: dict[str, int]
    fingerprint: str
    autoencoder: dict[str, Any] | None = None
    validation_is_train: bool = False


def extensions_of(kind: Kind) -> tuple[str, ...]:
    return IMAGE_EXTENSIONS if kind == "image" else (LATENT_EXTENSION,)


def parse_metadata(raw: bytes) -> dict[str, Any]:
    """A sample's JSON member, checked.

    Raises:
        SampleError: not JSON, or a field is missing or of the wrong type.
    """
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise SampleError(f"json does not parse ({error})") from error
    if not isinstance(data, dict):
        raise SampleError("json is not an object")
    if not isinstance(data.get("id"), str) or not data["id"]:
        raise SampleError('json has no "id" (a non-empty string)')
    for side in ("width", "height"):
        if type(data.get(side)) is not int or data[side] < 1:
            raise SampleError(f'json has no "{side}" (a whole number of pixels)')
    captions = data.get("captions")
    if not isinstance(captions, list) or not captions:
        raise SampleError('json has no "captions" (a list of at least one string)')
    if not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise SampleError("a caption is empty or no string")
    if not isinstance(data.get("annotations", {}), dict):
        raise SampleError('"annotations" in the json is not an object')
    return data


def payload_extension(names: Collection[str], kind: Kind) -> str:
    """The extension of the one payload among a sample's members.

    Raises:
        SampleError: no payload of this kind, or several.
    """
    found = [name for name in names if name in extensions_of(kind)]
    if len(found) != 1:
        wanted = "|".join(extensions_of(kind))
        raise SampleError(f"{'no' if not found else 'more than one'} {kind} ({wanted}) among {sorted(names)}")
    return found[0]


def parse_sample(members: Mapping[str, bytes], kind: Kind) -> Sample:
    """A sample from its members {extension: content}.

    Raises:
        SampleError: a member is missing or the JSON is wrong. The payload itself is not decoded.
    """
    if "json" not in members:
        raise SampleError("no json member")
    data = parse_metadata(members["json"])
    extension = payload_extension(members, kind)
    return Sample(
        id=data["id"],
        captions=tuple(data["captions"]),
        width=data["width"],
        height=data["height"],
        payload=members[extension],
        extension=extension,
        annotations=data.get("annotations"),
        seed=data.get("seed"),
    )


def serialize_sample(sample: Sample) -> dict[str, bytes]:
    """The inverse of ``parse_sample``; the same bytes for the same sample."""
    data: dict[str, Any] = {
        "id": sample.id,
        "captions": list(sample.captions),
        "width": sample.width,
        "height": sample.height,
    }
    if sample.annotations is not None:
        data["annotations"] = sample.annotations
    if sample.seed is not None:
        data["seed"] = sample.seed
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return {"json": text.encode(), sample.extension: sample.payload}


def read_info(dataset: Path) -> DatasetInfo:
    """Reads dataset.json.

    Raises:
        UserError: no such folder, no or broken dataset.json, or another version of the schema.
    """
    path = dataset / "dataset.json"
    if not dataset.is_dir():
        raise UserError(f"{dataset}: no such data set; make one with 'lightning data build'")
    if not path.is_file():
        raise UserError(f"{dataset}: no dataset.json, so no complete data set; run 'lightning data build'")
    try:
        data = json.loads(path.read_bytes())
        version = data["schema"]
        if version != VERSION:
            raise UserError(f"{path}: schema {version!r}, this program reads schema {VERSION}; build it again")
        info = DatasetInfo(
            kind=data["kind"],
            name=str(data["name"]),
            source=str(data["source"]),
            samples={split: int(data["samples"][split]) for split in SPLITS},
            fingerprint=str(data["fingerprint"]),
            autoencoder=data.get("autoencoder"),
            validation_is_train=bool(data.get("validation_is_train", False)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not readable ({type(error).__name__}: {error}); build it again") from error
    if info.kind not in ("image", "latent"):
        raise UserError(f'{path}: kind {info.kind!r} is neither "image" nor "latent"')
    return info


def serialize_info(info: DatasetInfo) -> str:
    data: dict[str, Any] = {
        "schema": VERSION,
        "kind": info.kind,
        "name": info.name,
        "source": info.source,
        "samples": info.samples,
        "fingerprint": info.fingerprint,
        "autoencoder": info.autoencoder,
    }
    if info.validation_is_train:
        data["validation_is_train"] = True
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
