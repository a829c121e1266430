"""Files that an evaluation needs and this project does not ship: prompts, questions, weights.

``lightning evaluate FILE --fetch`` downloads them to the paths that the file's components name; ``--from FOLDER``
takes them from a folder instead (an air-gapped machine). A file arrives under a temporary name, is checked, and is
then renamed.
"""

import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from evaluation.settings import Evaluation
from pocketdit.config.component import Component
from pocketdit.errors import ConfigError, RunError, UserError
from pocketdit.files import sha256_of

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Asset:
    """``argument``: the component's argument that names the file, or the folder that ``path`` is below.

    ``sha256``: all of its digits or the first ones; empty where the publisher tells none: then the file's own is
    printed when it arrives. ``bytes``: about. ``path``: empty where the argument is the file itself; a component with
    another kind of file there, with a folder or with a library's tag needs none. ``model``: the component's own
    argument of that name that the file is for, where there are several.
    """

    argument: str
    path: str
    url: str
    sha256: str
    bytes: int
    model: str = ""


@dataclass(frozen=True)
class Needed:
    """An asset and where it goes."""

    asset: Asset
    target: Path

    @property
    def name(self) -> str:
        """By which a folder of downloaded files has it: below the folder's own name where several files go into one."""
        path = self.asset.path
        if not path:
            return self.asset.url.rpartition("/")[2]
        return path if "/" in path else f"{self.target.parent.name}/{path}"


_RAW = "https://raw.githubusercontent.com"
_GENEVAL = f"{_RAW}/djghosh13/geneval/af4902f24d3ca90ebbb446dd9891a59e0f82725f/prompts"
_ELLA = f"{_RAW}/TencentQQGYLab/ELLA/3c228f1dc6c4d3cad0a47493816151a419f14db3/dpg_bench"
_COMPBENCH = f"{_RAW}/Karine-Huang/T2I-CompBench/1b7094991a57f3c22abdd4f6e8ba6c1a15517073/examples/dataset"
_MMDET = "https://download.openmmlab.com/mmdetection/v2.0/mask2former/mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco"
_HUB = "https://huggingface.co"
_MPLUG = "https://modelscope.cn/models/damo/mplug_visual-question-answering_coco_large_en/resolve/master"
_OPENAI = "https://openaipublic.azureedge.net/clip/models"
_CLIP_L14 = "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"

_COMPBENCH_FILES = {
    "color_val": ("1634259756dbc77d13093d907d414480080ec9790a8c97ad09efaea7b2534f2d", 11871),
    "shape_val": ("37e1a276906c7ea9516cbd7ac8501be896006c0c17ca7344f260562834455bae", 15935),
    "texture_val": ("fbb5363515b4a28009e360afaaaf389d2dd2289e50dbb0c6ef4ea0c7fe4f3d4f", 14211),
    "spatial_val": ("8707a1d7e42ce3002d95363cf55f74bd043c843ae27108f5125aaaa7840ca988", 9213),
    "non_spatial_val": ("04c56cc9ac441dc9ea6c5157652058bd1635b5308526dd31bb29a1caab9a758d", 17750),
    "numeracy_val": ("dad8df141604b70ba7554bec724e3db0a80023680769b5c514854ea2d2527bbe", 10863),
    "complex_val": ("1b808018b8d9916db3d47d5aa2ef18377a3549a56901a474156f799824cdf3b4", 22724),
    "complex_val_spatial": ("6c7ac0ab75c7c9080cfc7b421fb059b9b0febb98471707aeedf58771088abc02", 2898),
    "complex_val_action": ("d49ee4c7f99e3f3379fb8704a54ff5288b83bb412971edf616a4721c2473308e", 17698),
    "complex_val_spatialaction": ("e02ddc7fed812e6577e7386ec2137ce0a994a5ce19771661f68df7ac349a6ca9", 2128),
    "new_objects": ("f39a3d2ff6067d7738673cbf465dc659ccc750776162989a5d9916f1d5f3e231", 1568),
}

ASSETS: dict[str, tuple[Asset, ...]] = {
    "evaluation.prompts.geneval.GenEvalPrompts": (
        Asset(
            "folder", "geneval/evaluation_metadata.jsonl", f"{_GENEVAL}/evaluation_metadata.jsonl",
            "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13", 85_209,
        ),
    ),
    "evaluation.prompts.dpg.DPGPrompts": (
        Asset("folder", "dpg_bench/dpg_bench.csv", f"{_ELLA}/dpg_bench.csv", "", 5_000_000),
    ),
    "evaluation.prompts.compbench.CompBenchPrompts": tuple(
        Asset("folder", f"t2i_compbench/{name}.txt", f"{_COMPBENCH}/{name}.txt", sha256, size)
        for name, (sha256, size) in _COMPBENCH_FILES.items()
    ),
    "evaluation.judges.mask2former.Mask2FormerDetector": (
        Asset(
            "weights", "", f"{_MMDET}/mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth",
            "743b7d99", 280_000_000,
        ),
    ),
    "evaluation.judges.clip_colors.ClipColorReader": (
        Asset("weights", "", f"{_OPENAI}/{_CLIP_L14}/ViT-L-14.pt", _CLIP_L14, 933_000_000),
    ),
    "evaluation.judges.dinov2.DinoV2": (
        Asset(
            "weights", "", f"{_HUB}/timm/vit_large_patch14_dinov2.lvd142m/resolve/main/model.safetensors", "",
            1_220_000_000, "vit_large_patch14_dinov2",
        ),
    ),
    "evaluation.judges.open_clip_encoder.OpenClip": (
        Asset(
            "weights", "", f"{_HUB}/timm/vit_base_patch32_clip_224.openai/resolve/main/open_clip_model.safetensors",
            "", 605_000_000, "ViT-B-32-quickgelu",
        ),
    ),
    "evaluation.judges.mplug.MPlugAnswerer": tuple(
        Asset("folder", name, f"{_MPLUG}/{name}", "", size)
        for name, size in (
            ("pytorch_model.bin", 2_500_000_000), ("config.yaml", 2_000), ("config_bert.json", 1_000),
            ("vocab.txt", 232_000),
        )
    ),
    "evaluation.judges.blip.BlipAnswerer": tuple(
        Asset("path", name, f"{_HUB}/Salesforce/blip-vqa-capfilt-large/resolve/main/{name}", "", size)
        for name, size in (
            ("config.json", 5_000), ("preprocessor_config.json", 500), ("tokenizer_config.json", 600),
            ("tokenizer.json", 711_000), ("vocab.txt", 232_000), ("special_tokens_map.json", 200),
            ("model.safetensors", 1_540_000_000),
        )
    ),
}  # fmt: skip


def needed(settings: Evaluation) -> list[Needed]:
    """What the components of an evaluation read and this project does not ship."""
    found: dict[Path, Needed] = {}
    for component in _components([settings.subject, *settings.prompts.values(), *settings.metrics]):
        for asset in ASSETS.get(component.class_path, ()):
            place = component.init_args.get(asset.argument)
            if place is None or component.init_args.get("model", asset.model) != asset.model:
                continue
            target = Path(place) / asset.path if asset.path else Path(place)
            if asset.path or target.suffix == Path(asset.url).suffix:
                found.setdefault(target, Needed(asset, target))
    return list(found.values())


def _components(value: Any) -> Iterator[Component]:
    """All components in a configuration, those inside others included."""
    if isinstance(value, Component):
        yield value
        yield from _components(value.init_args)
    elif isinstance(value, dict):
        yield from _components(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _components(item)


def require(settings: Evaluation) -> None:
    """``ConfigError`` that lists what is missing, where it goes and how large it is."""
    missing = [item for item in needed(settings) if not item.target.exists()]
    if missing:
        lines = [f"  {item.target} ({_megabytes(item.asset.bytes)}) from {item.asset.url}" for item in missing]
        raise ConfigError(
            f"{len(missing)} files are missing; get them with --fetch, or from a folder with --fetch --from FOLDER:\n"
            + "\n".join(lines)
        )


def fetch(settings: Evaluation, source: Path | None = None) -> None:
    """Brings every missing file to its place, from ``source`` or from the network; what is there is checked.

    Raises ``RunError`` where a download fails, ``UserError`` where the folder lacks files or a checksum is wrong.
    """
    wanted = needed(settings)
    if not wanted:
        print("nothing to fetch: every component ships with this project")
        return
    if source is not None and not source.is_dir():
        raise ConfigError(f"--from {source}: no such folder")
    if source is not None:
        lacking = [item.name for item in wanted if not item.target.exists() and not (source / item.name).is_file()]
        if lacking:
            raise ConfigError(f"{source} lacks {len(lacking)} of {len(wanted)} files: {', '.join(lacking)}")
    for item in wanted:
        if item.target.exists():
            check(item.target, item.asset.sha256)
            print(f"there     {item.target}")
            continue
        item.target.parent.mkdir(parents=True, exist_ok=True)
        part = item.target.with_name(f".{item.target.name}.part")
        try:
            if source is not None:
                shutil.copyfile(source / item.name, part)
            else:
                _download(item, part)
            digest = check(part, item.asset.sha256, str(source / item.name if source else item.asset.url))
            part.replace(item.target)
        except OSError as error:
            raise RunError(f"{item.asset.url}: {error}; call the command again, or take it with --from") from error
        finally:
            part.unlink(missing_ok=True)
        told = "" if item.asset.sha256 else f"  sha256 {digest} (its publisher tells none)"
        print(f"fetched   {item.target}{told}")


def check(path: Path, sha256: str, origin: str = "") -> str:
    """A file's SHA-256; ``UserError`` where it does not begin with ``sha256``, naming the file or its ``origin``."""
    digest = sha256_of(path)
    if not digest.startswith(sha256):
        mend = "take another copy" if origin else "delete it and fetch it again"
        raise UserError(f"{origin or path}: wrong checksum {digest}, expected {sha256}; {mend}")
    return digest


def _download(item: Needed, part: Path) -> None:
    with urllib.request.urlopen(item.asset.url, timeout=60) as response, part.open("wb") as file:
        stated = response.headers.get("Content-Length")
        received = _copy(response, file, int(stated or item.asset.bytes), item.target.name)
    if stated is not None and received != int(stated):
        raise OSError(f"only {received} of {stated} bytes came")


def _copy(source: IO[bytes], file: IO[bytes], total: int, name: str) -> int:
    """Returns the number of bytes."""
    with tqdm(total=total, desc=name, unit="B", unit_scale=True) as progress:
        while block := source.read(_CHUNK):
            file.write(block)
            progress.update(len(block))
        return int(progress.n)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
