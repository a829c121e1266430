"""Functions that write a small source in each layout, with real files, and return the samples that an import yields."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat


class Expected(NamedTuple):
    """A sample that importing a source must yield."""

    pixels: np.ndarray
    captions: tuple[str, ...]
    split: str


Samples = dict[str, Expected]


def pixels_of(number: int, size: tuple[int, int] = (40, 32)) -> np.ndarray:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST))


def image_bytes(number: int, kind: str = "PNG", size: tuple[int, int] = (40, 32)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_of(number, size)).save(file, format=kind)
    return file.getvalue()


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_img2dataset(source: Path, tars: int = 2, samples: int = 3) -> Samples:
    """Write shards as img2dataset does: each is a tar with a Parquet file and a JSON file of statistics."""
    expected: Samples = {}
    for shard in range(tars):
        members: dict[str, bytes] = {}
        rows: list[dict[str, Any]] = []
        for i in range(samples + 1):
            number, key = shard * 10 + i, f"{shard:05d}{i:04d}"
            row: dict[str, Any] = {
                "key": key,
                "url": f"https://example.com/{key}",
                "caption": f"Picture {number}\n of  it",
            }
            row |= {"status": "success" if i < samples else "failed_to_download", "aesthetic": 4.0 + number}
            rows.append(row)
            if row["status"] != "success":
                continue
            content = image_bytes(number, "JPEG")
            row_json = {name: value for name, value in row.items() if name != "aesthetic"} | {"width": 40}
            members |= {f"{key}.jpg": content, f"{key}.json": json.dumps(row_json).encode()}
            members[f"{key}.txt"] = str(row["caption"]).encode()
            expected[f"{shard:05d}.tar/{key}"] = Expected(decoded(content), (f"Picture {number} of it",), "train")
        write_tar(source / f"{shard:05d}.tar", members)
        pq.write_table(pa.Table.from_pylist(rows), source / f"{shard:05d}.parquet")
        (source / f"{shard:05d}_stats.json").write_text("{}")
    return expected


def write_webdataset(source: Path) -> Samples:
    """Write tars of two splits, in which the members that contain images and captions have unusual names."""
    expected: Samples = {}
    for number, name in enumerate(("things-train-000.tar", "things-train-001.tar", "things-validation-000.tar")):
        members: dict[str, bytes] = {}
        for i in range(2):
            meta = {"texts": {"short": f"short {number} {i}", "long": f"long {number} {i}"}}
            members[f"a/{i}.input.png"] = image_bytes(10 * number + i)
            members[f"a/{i}.output.png"] = image_bytes(99)
            members[f"a/{i}.meta.json"] = json.dumps(meta).encode()
            captions = (f"short {number} {i}", f"long {number} {i}")
            split = "train" if "train" in name else "validation"
            expected[f"{name}/a/{i}"] = Expected(pixels_of(10 * number + i), captions, split)
        write_tar(source / name, members)
    return expected


def write_hugging_face_parquet(source: Path) -> Samples:
    """Write Parquet files as on the Hugging Face Hub: one per split, with structs of image bytes and paths."""
    expected: Samples = {}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split, count in (("train", 5), ("validation", 2), ("test", 2)):
        images = [{"bytes": image_bytes(i + 20 * count), "path": f"{i}.png"} for i in range(count)]
        texts = [[f"{split} {i}", f"{split} {i} in long"] for i in range(count)]
        table = pa.table({"image": pa.array(images, kind), "text": texts, "score": [float(i) for i in range(count)]})
        (source / "data").mkdir(exist_ok=True)
        name = f"data/{split}-00000-of-00001.parquet"
        pq.write_table(table, source / name, row_group_size=2)
        if split != "test":
            for i in range(count):
                expected[f"{name}/{i}"] = Expected(pixels_of(i + 20 * count), tuple(texts[i]), split)
    return expected


def write_coco(source: Path) -> Samples:
    """Write COCO in its published layout: annotations/captions_SPLIT.json, and one image folder per split."""
    expected: Samples = {}
    (source / "annotations").mkdir()
    for split, count in (("train2017", 4), ("val2017", 2)):
        (source / split).mkdir()
        images, annotations = [], []
        for i in range(count):
            number, name = 100 * count + i, f"{100 * count + i:012d}.jpg"
            content = image_bytes(number, "JPEG")
            (source / split / name).write_bytes(content)
            images.append(
                {"id": number, "file_name": name, "coco_url": f"http://images.cocodataset.org/{split}/{name}"}
            )
            texts = [f"caption {j} of {number}" for j in range(5)]
            annotations += [
                {"image_id": number, "id": 10 * number + j, "caption": text} for j, text in enumerate(texts)
            ]
            use = "train" if split == "train2017" else "validation"
            expected[f"{split}/{name}"] = Expected(decoded(content), tuple(texts), use)
        content = json.dumps({"info": {}, "images": images[::-1], "annotations": annotations}).encode()
        (source / "annotations" / f"captions_{split}.json").write_bytes(content)
        (source / "annotations" / f"instances_{split}.json").write_text("{}")
    return expected


SYNSETS = {"n01440764": "tench", "n02123045": "tabby", "n03126707": "crane"}


def write_class_folders(source: Path) -> Samples:
    """Write images in the usual folders of the unpacked ImageNet: train/ and val/, with one subfolder per class."""
    expected: Samples = {}
    for number, (synset, name) in enumerate(SYNSETS.items()):
        for folder, split, count in (("train", "train", 3), ("val", "validation", 1)):
            for i in range(count):
                path = source / folder / synset / f"{synset if split == 'train' else folder}_{i}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                content = image_bytes(10 * number + i + 5 * (split == "train"), "JPEG")
                path.write_bytes(content)
                expected[path.relative_to(source).as_posix()] = Expected(
                    decoded(content), (f"a photo of a {name}",), split
                )
    return expected


def write_imagenet_tars(source: Path) -> Samples:
    """Write ImageNet's official files: a tar of tars for training, a flat tar for validation, and the devkit."""
    expected: Samples = {}
    outer: dict[str, bytes] = {}
    for number, (synset, name) in enumerate(SYNSETS.items()):
        members = {f"{synset}_{i}.JPEG": image_bytes(10 * number + i, "JPEG") for i in range(3)}
        for member, content in members.items():
            expected[f"train/{synset}/{Path(member).stem}"] = Expected(
                decoded(content), (f"a photo of a {name}",), "train"
            )
        outer[f"{synset}.tar"] = write_tar(source / f"{synset}.tar", members).read_bytes()
        (source / f"{synset}.tar").unlink()
    write_tar(source / "ILSVRC2012_img_train.tar", outer)
    truth = [3, 1]  # class numbers (from meta.mat) of the validation images
    flat = {f"ILSVRC2012_val_{i:08d}.JPEG": image_bytes(50 + i, "JPEG") for i in range(1, 3)}
    write_tar(source / "ILSVRC2012_img_val.tar", flat)
    for (member, content), label in zip(flat.items(), truth, strict=True):
        caption = f"a photo of a {list(SYNSETS.values())[label - 1]}"
        expected[f"val/{Path(member).stem}"] = Expected(decoded(content), (caption,), "validation")
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    rows = [(i, synset, name, 0) for i, (synset, name) in enumerate(SYNSETS.items(), start=1)]
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array([*rows, (4, "n00001740", "entity", 3)], dtype=kind)})
    devkit = {
        "ILSVRC2012_devkit_t12/data/meta.mat": meta.getvalue(),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{n}\n" for n in truth).encode(),
    }
    with tarfile.open(source / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        for name, content in devkit.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return expected


def write_path_table(source: Path, suffix: str) -> tuple[Path, Samples]:
    """Write a table of image paths and captions next to a folder of images."""
    (source / "pictures").mkdir()
    table = source / f"list{suffix}"
    rows = []
    expected: Samples = {}
    for i in range(5):
        (source / "pictures" / f"{i}.png").write_bytes(image_bytes(i))
        rows.append({"filepath": f"pictures/{i}.png", "title": f'number {i}, "quoted"', "score": 0.5 * i})
        line = i + {".csv": 2, ".tsv": 2, ".jsonl": 1, ".parquet": 1}[suffix]
        expected[f"{table.name}/{line}"] = Expected(pixels_of(i), (f'number {i}, "quoted"',), "train")
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    elif suffix == ".jsonl":
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        comma = "\t" if suffix == ".tsv" else ","
        lines = [comma.join(rows[0])]
        for row in rows:
            title = str(row["title"]).replace('"', '""')
            lines.append(comma.join([str(row["filepath"]), f'"{title}"', str(row["score"])]))
        table.write_text("\n".join(lines) + "\n")
    return table, expected
