"""Tests for indexes of tars on an S3 server and on a web server."""

import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pytest

from datamodules.imports.index import IndexSettings, index_tars
from datamodules.shards.module import ShardDataModule
from datamodules.shards.schema import read_info
from pocketdit.commands.main import main
from pocketdit.errors import RunError, UserError
from tests.datamodules.imports.layout_sources import write_img2dataset

Upload = Callable[[Path], str]


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    folder = tmp_path / "tars"
    folder.mkdir()
    write_img2dataset(folder / "a", tars=2, samples=6)
    write_img2dataset(folder, tars=2, samples=6)
    return folder


def index(source: Path | str, out: Path | None, **settings: Any) -> Any:
    return index_tars(str(source), out, IndexSettings(**settings), progress=False)


def batches(path: Path | str) -> list[tuple[list[int], list[str], bytes]]:
    module = ShardDataModule(str(path), 4, workers=0, window=2)
    loaders = module.train_dataloader(), module.val_dataloader()
    return [
        (batch["ids"].tolist(), batch["captions"], batch["images"].numpy().tobytes())
        for batch in (*islice(loaders[0], 12), *loaders[1])
        if not batch["skipped"]
    ]


def test_index_of_remote_tars_equals_that_of_local_ones(tars: Path, tmp_path: Path, upload: Upload) -> None:
    address = upload(tars)
    index(tars, tmp_path / "local", fraction=0.2)
    index(address, tmp_path / "remote", fraction=0.2)
    local, remote = (read_info(tmp_path / name) for name in ("local", "remote"))
    assert local.samples == remote.samples
    assert (remote.tars or {})["address"] == address
    expected = batches(tmp_path / "local")
    assert len(expected) > 12
    assert batches(tmp_path / "remote") == expected
    assert index(address, tmp_path / "remote", fraction=0.2) is None


def test_index_beside_the_tars_is_uploaded_with_them(
    tars: Path, tmp_path: Path, upload: Upload, web_server: str
) -> None:
    index(tars, None, fraction=0.2)
    expected = batches(tars)
    assert batches(upload(tars)) == expected
    assert batches(f"{web_server}/tars") == expected


@pytest.mark.parametrize("change", ["replaced", "longer", "missing"])
def test_remote_tar_that_changes_is_named(tars: Path, tmp_path: Path, upload: Upload, change: str) -> None:
    address = upload(tars)
    index(address, tmp_path / "remote", fraction=0)
    client = fsspec.filesystem("s3", skip_instance_cache=True)
    content = (tars / "00001.tar").read_bytes()
    if change == "missing":
        client.rm(f"{address}/00001.tar")
    else:
        client.pipe_file(f"{address}/00001.tar", content[:-1] + (b"1" if change == "replaced" else b"\0\0"))
    with pytest.raises(RunError, match=r"/00001.tar: (has changed since it was indexed|does not exist)"):
        ShardDataModule(str(tmp_path / "remote"), 2).setup()


def test_downloaded_index_does_not_decide_what_else_is_read(tars: Path, tmp_path: Path, upload: Upload) -> None:
    index(tars, tmp_path / "index")
    with pytest.raises(UserError, match=r"is an index of tars in .*tars; copy its folder to this machine"):
        ShardDataModule(upload(tmp_path / "index"), 2).setup()


def test_encoding_and_statistics_of_remote_tars(tars: Path, tmp_path: Path, upload: Upload) -> None:
    index(upload(tars), tmp_path / "index", fraction=0.2)
    shutil.rmtree(tars)
    assert main(["data", "stats", str(tmp_path / "index")]) == 0
    assert main(["data", "validate", str(tmp_path / "index")]) == 0
    experiment = Path(__file__).parents[3] / "experiments" / "elastic_pretrain.yaml"
    out = tmp_path / "encoded"
    assert main(["data", "encode", str(experiment), str(tmp_path / "index"), str(out), "--latents-only"]) == 0
    assert read_info(out).samples == read_info(tmp_path / "index").samples
    assert len(list((out / "train").glob("*.tar"))) == 4
    assert main(["data", "validate", str(out)]) == 0
