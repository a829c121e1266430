"""The shard format, version 1: a folder of WebDataset tar files with a dataset.json.

    DATASET/dataset.json              kind, source, number of samples, and a fingerprint
    DATASET/train/00000.tar ...       a sample is a sequence of adjacent members that share a key:
    DATASET/validation/00000.tar ...    KEY.json and KEY.png|jpg|jpeg|webp or KEY.latent.safetensors

KEY.json contains "id" (unique in the data set), "captions" (the short caption, followed by longer captions), "width"
and "height" of the image in pixels, and optionally "annotations" and "seed". In a data set of latents, the size is that
of the encoded image. An image has at most ``MAX_PIXELS``. The sides of an encoded image are multiples of
``SIDE_MULTIPLE``.
KEY.latent.safetensors contains a tensor "latent" (C, height / factor, width / factor), already normalized. The
dataset.json of a data set of latents describes their autoencoder and records its "factor". If it also describes text
encoders, KEY.latent.safetensors contains the embeddings of every caption (see ``text_layout``).
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from datamodules.shards.attribution import Attribution
from datamodules.shards.buckets import SIDE_MULTIPLE
from datamodules.shards.images import MAX_PIXELS
from datamodules.shards.replacement import finish_replacement
from datamodules.shards.text_layout import Group, TextLayout
from pocketdit.errors import UserError

VERSION = 1
INFO_FILE = "dataset.json"
Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
PARTS = (*SPLITS, INFO_FILE)  # dataset.json is written last, so it marks the data set as complete
IMAGE_EXTENSIONS = ("png", "jpg", "jpeg", "webp")
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")  # stored images of other formats are not opened, regardless of extension
LATENT_EXTENSION = "latent.safetensors"
_ADDRESS = re.compile(r"\w+:/")  # a Path keeps only one of the two slashes in an address

Kind = Literal["image", "latent"]


class SampleError(Exception):
    """A sample is unusable. Loaders skip and count such samples, so the error never ends a run."""


def reason_of(error: Exception) -> str:
    """Describe why a sample is unusable. Libraries raise many types of exceptions for damaged files."""
    return str(error) if isinstance(error, SampleError) else f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Sample:
    """A stored sample.

    Attributes:
        id: ID of the sample, unique in the data set.
        captions: The short caption, followed by longer captions.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        payload: The encoded image or latent.
        extension: The payload's format, one of ``IMAGE_EXTENSIONS`` or ``LATENT_EXTENSION``.
        annotations: Ground truth about the image, which can be serialized as JSON.
        seed: Seed with which the sample was generated.
        formats: The image formats that are opened, regardless of the extension.
    """

    id: str
    captions: tuple[str, ...]
    width: int
    height: int
    payload: bytes = field(repr=False)
    extension: str
    annotations: dict[str, Any] | None = None
    seed: int | None = None
    formats: tuple[str, ...] = IMAGE_FORMATS


@dataclass(frozen=True)
class DatasetInfo:
    """The contents of dataset.json.

    Attributes:
        kind: Whether samples are images or latents.
        name: Short name of the data set.
        source: Human-readable origin of the data.
        samples: Number of samples per split.
        fingerprint: Hash of the shards.
        autoencoder: Description of the autoencoder that encoded the latents, or None for images.
        text_encoders: Descriptions of the text encoders whose embeddings are stored with the latents.
        teacher_text_encoders: Descriptions of a teacher's text encoders whose embeddings are stored with the latents.
        encoded_from: Fingerprint of the images that were encoded.
        validation_is_train: Whether the validation split repeats the training split.
        attribution: License and authors of the images, or None if no attribution is required.
        imported: Layout of the imported source, number of its images, and number of images that each filter left out.
        tars: Location of the tars and rules for reading them, if the data set consists only of indexes.
    """

    kind: Kind
    name: str
    source: str
    samples: dict[str, int]
    fingerprint: str
    autoencoder: dict[str, Any] | None = None
    text_encoders: tuple[dict[str, Any], ...] = ()
    teacher_text_encoders: tuple[dict[str, Any], ...] = ()
    encoded_from: str | None = None
    validation_is_train: bool = False
    attribution: Attribution | None = None
    imported: dict[str, Any] | None = None
    tars: dict[str, Any] | None = None

    @property
    def text_layouts(self) -> dict[Group, list[TextLayout]]:
        """The layouts of each group's text embeddings. The list of a group without embeddings is empty."""
        return {
            "text": [TextLayout.parse(encoder) for encoder in self.text_encoders],
            "teacher": [TextLayout.parse(encoder) for encoder in self.teacher_text_encoders],
        }


def extensions_of(kind: Kind) -> tuple[str, ...]:
    """Return the payload extensions of a kind of data set."""
    return IMAGE_EXTENSIONS if kind == "image" else (LATENT_EXTENSION,)


def parse_metadata(raw: bytes, kind: Kind) -> dict[str, Any]:
    """Parse and check the JSON member of a sample in a data set of the given kind.

    Raises:
        SampleError: The member is not JSON, or a field is missing or has the wrong type.
    """
    try:
        metadata = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SampleError(f"json cannot be parsed ({error})") from error
    if not isinstance(metadata, dict):
        raise SampleError("json is not an object")
    if not is_text(metadata.get("id")) or not metadata["id"]:
        raise SampleError('json: "id" is not a non-empty string')
    _check_sides(metadata, kind)
    captions = metadata.get("captions")
    if not isinstance(captions, list) or not captions:
        raise SampleError('json: "captions" is not a list of at least one string')
    if not all(is_text(caption) and caption.strip() for caption in captions):
        raise SampleError('json: "captions" contains an empty caption or one that is not a string')
    if not isinstance(metadata.get("annotations", {}), dict):
        raise SampleError('json: "annotations" is not an object')
    return metadata


def _check_sides(metadata: Mapping[str, Any], kind: Kind) -> None:
    for side in ("width", "height"):
        if type(metadata.get(side)) is not int or metadata[side] < 1:
            raise SampleError(f'json: "{side}" is not a positive whole number of pixels')
    width, height = metadata["width"], metadata["height"]
    if width * height > MAX_PIXELS:
        raise SampleError(f'json: "width" x "height" is more than {MAX_PIXELS // 10**6} megapixels')
    if kind == "latent" and (width % SIDE_MULTIPLE or height % SIDE_MULTIPLE):
        raise SampleError(f"sides {width}x{height} are not multiples of {SIDE_MULTIPLE} pixels")


def is_text(value: object) -> bool:
    r"""Return whether a value is a string that UTF-8 can encode. JSON can contain lone surrogates, as in "\ud83d"."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def payload_extension(names: Collection[str], kind: Kind) -> str:
    """Return the extension of the payload, given the extensions of a sample's members.

    Raises:
        SampleError: The sample does not have exactly one payload of the given kind.
    """
    payloads = [name for name in names if name in extensions_of(kind)]
    if len(payloads) != 1:
        expected = "|".join(extensions_of(kind))
        count = "no" if not payloads else "more than one"
        raise SampleError(f"{count} {kind} ({expected}) among the members {sorted(names)}")
    return payloads[0]


def parse_sample(members: Mapping[str, bytes], kind: Kind) -> Sample:
    """Parse a sample without decoding its payload. ``members`` maps the extensions of its members to their contents.

    Raises:
        SampleError: A member is missing or the JSON is invalid.
    """
    if "json" not in members:
        raise SampleError("the json member is missing")
    metadata = parse_metadata(members["json"], kind)
    extension = payload_extension(members, kind)
    return Sample(
        id=metadata["id"],
        captions=tuple(metadata["captions"]),
        width=metadata["width"],
        height=metadata["height"],
        payload=members[extension],
        extension=extension,
        annotations=metadata.get("annotations"),
        seed=metadata.get("seed"),
    )


def serialize_sample(sample: Sample) -> dict[str, bytes]:
    """Return the members of a sample, which ``parse_sample`` can read. The result depends only on the sample."""
    metadata: dict[str, Any] = {
        "id": sample.id,
        "captions": list(sample.captions),
        "width": sample.width,
        "height": sample.height,
    }
    if sample.annotations is not None:
        metadata["annotations"] = sample.annotations
    if sample.seed is not None:
        metadata["seed"] = sample.seed
    text = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    return {"json": text.encode(), sample.extension: sample.payload}


def is_complete(dataset: Path) -> bool:
    """Return whether a folder contains a complete data set. If a replacement was interrupted, it is finished first."""
    finish_replacement(dataset, PARTS)
    return (dataset / INFO_FILE).is_file()


def read_info(dataset: Path) -> DatasetInfo:
    """Read and check the dataset.json of a data set.

    Raises:
        UserError: The folder or dataset.json does not exist, or dataset.json is invalid or has an unsupported version.
    """
    path = dataset / INFO_FILE
    if _ADDRESS.match(str(dataset)):
        raise UserError(f"{dataset}: this command reads only local folders; copy the data set to a local folder")
    if not dataset.is_dir():
        raise UserError(f"{dataset}: no such data set; create one with: lightning data build")
    if not is_complete(dataset):
        raise UserError(f"{dataset}: not a complete data set (no {INFO_FILE}); create one with: lightning data build")
    try:
        data = json.loads(path.read_bytes())
        version = data["schema"]
        if version != VERSION:
            is_newer = isinstance(version, int) and version > VERSION
            remedy = "update PocketDiT to a newer version" if is_newer else "build the data set again"
            raise UserError(f"{path}: schema {version!r} is not supported, expected {VERSION}; {remedy}")
        info = DatasetInfo(
            kind=data["kind"],
            name=str(data["name"]),
            source=str(data["source"]),
            samples={split: int(data["samples"][split]) for split in SPLITS},
            fingerprint=str(data["fingerprint"]),
            autoencoder=data.get("autoencoder"),
            text_encoders=tuple(data.get("text_encoders", ())),
            teacher_text_encoders=tuple(data.get("teacher_text_encoders", ())),
            encoded_from=data.get("encoded_from"),
            validation_is_train=bool(data.get("validation_is_train", False)),
            attribution=Attribution(**data["attribution"]) if data.get("attribution") else None,
            imported=data.get("imported"),
            tars=data.get("tars"),
        )
        _ = info.text_layouts
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: invalid ({type(error).__name__}: {error}); build the data set again") from error
    if problem := _problem_of(info):
        raise UserError(f"{path}: {problem}; build the data set again")
    return info


def _problem_of(info: DatasetInfo) -> str | None:
    if info.kind not in ("image", "latent"):
        return f'kind {info.kind!r} is neither "image" nor "latent"'
    if not isinstance(info.autoencoder, dict | None):
        return '"autoencoder" is not an object'
    autoencoder = info.autoencoder or {}
    if info.kind == "latent" and "factor" not in autoencoder:
        return '"autoencoder" does not record the "factor" of the latents'
    if info.attribution and not all(isinstance(value, str) for value in asdict(info.attribution).values()):
        return '"attribution" is not an object of strings'
    if info.kind == "image" and (info.text_encoders or info.teacher_text_encoders):
        return "text embeddings can only be stored with latents"
    if not isinstance(info.encoded_from, str | None):
        return '"encoded_from" is not a string'
    for description in (autoencoder, *info.text_encoders, *info.teacher_text_encoders):
        if not isinstance(description.get("init_args", {}), dict):
            return 'the "init_args" of an encoder are not an object'
    numbers = (name for name in ("factor", "channels") if name in autoencoder)
    wrong = [name for name in numbers if type(autoencoder[name]) is not int or autoencoder[name] < 1]
    return f'"autoencoder": "{wrong[0]}" is not a positive number' if wrong else None


def serialize_info(info: DatasetInfo) -> str:
    """Return the text of dataset.json."""
    data: dict[str, Any] = {
        "schema": VERSION,
        "kind": info.kind,
        "name": info.name,
        "source": info.source,
        "samples": info.samples,
        "fingerprint": info.fingerprint,
        "autoencoder": info.autoencoder,
    }
    for name in ("text_encoders", "teacher_text_encoders", "encoded_from"):
        if value := getattr(info, name):
            data[name] = value
    if info.validation_is_train:
        data["validation_is_train"] = True
    if info.attribution is not None:
        data["attribution"] = asdict(info.attribution)
    for name in ("imported", "tars"):
        if getattr(info, name) is not None:
            data[name] = getattr(info, name)
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
