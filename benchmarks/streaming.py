"""Measure the megabytes per second at which training data arrive from an S3 server on this machine.

The data set stores latents of 1024x1024 pixels (0.5 MB each), which are quick to decode, so that the connection is the
bottleneck. A proxy delays every answer and limits the bandwidth. The data module is timed on local files, with all
shards in its cache ("warm"), and with an empty cache ("cold"). webdataset streams the same shards over HTTP, and
litdata streams the same samples as chunks, both without an existing cache. "download" reads the shards with two plain
HTTP connections and discards them. The order is that of each library without shuffling; the data
module shuffles within its windows.

    python -m benchmarks.streaming [--json PATH] [--quick]
"""

import http.client
import importlib.util
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import fsspec
import numpy as np
import safetensors.numpy
import torch
import webdataset
from safetensors.torch import load
from torch import Tensor

from benchmarks.storage_proxy import StorageProxy
from benchmarks.storage_server import ACCESS_KEY, SECRET_KEY, seaweedfs
from benchmarks.timing import argument_parser, print_machine, table, verdict, write_result
from datamodules.shards.module import ShardDataModule
from datamodules.shards.schema import LATENT_EXTENSION, Sample, serialize_sample
from datamodules.shards.writer import DatasetWriter

BUCKET = "streaming"
BATCH_SIZE = 8
WINDOW = 4
WORKERS = 1
LATENCY, RATE = 0.02, 100e6
REQUIRED = 0.9
Load = Callable[[], Iterator[Tensor]]


def latent_samples(count: int) -> Iterator[Sample]:
    for number in range(count):
        latent = np.random.default_rng(number).standard_normal((16, 128, 128)).astype(np.float16)
        payload = safetensors.numpy.save({"latent": latent})
        yield Sample(str(number), (f"image {number}",), 1024, 1024, payload, LATENT_EXTENSION)


def build_data(folder: Path, samples: int, samples_per_shard: int) -> None:
    """Write the samples as shards and, if litdata is installed, as chunks."""
    description = {"class": "benchmark", "factor": 8, "channels": 16}
    with DatasetWriter(
        folder / "shards",
        kind="latent",
        name="latents",
        source="benchmark",
        autoencoder=description,
        samples_per_shard=samples_per_shard,
    ) as writer:
        for sample in latent_samples(samples):
            writer.add("train", sample)
    if importlib.util.find_spec("litdata") is not None:
        import litdata

        os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(folder / "optimizer")
        os.environ["DATA_OPTIMIZER_DATA_CACHE_FOLDER"] = str(folder / "optimizer-data")
        litdata.optimize(
            _stored_members,
            list(latent_samples(samples)),
            str(folder / "chunks"),
            chunk_size=samples_per_shard,
            num_workers=1,
            verbose=False,
            start_method="fork",
        )


def _stored_members(sample: Sample) -> dict[str, bytes]:
    members = serialize_sample(sample)
    return {"json": members["json"], "latent": members[LATENT_EXTENSION]}


def upload(folder: Path) -> None:
    client = fsspec.filesystem("s3", skip_instance_cache=True)
    client.mkdir(BUCKET)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"):
        client.put_file(str(path), f"{BUCKET}/{path.relative_to(folder)}")


@contextmanager
def limited_line(upstream: int) -> Iterator[int]:
    """Run the proxy in a process of its own, and yield its port."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run_proxy, args=(upstream, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def _run_proxy(upstream: int, connection: Connection) -> None:
    with StorageProxy(upstream, latency=LATENCY, rate=RATE) as proxy:
        connection.send(proxy.port)
        time.sleep(3600)


def load_with_data_module(path: str) -> Iterator[Tensor]:
    module = ShardDataModule(path, BATCH_SIZE, 1024, workers=WORKERS, window=WINDOW)
    loader = module.train_dataloader()
    try:
        for batch in islice(loader, module.batches_per_epoch):
            yield batch["latents"]
    finally:
        loader.close()


def load_with_webdataset(urls: Sequence[str]) -> Iterator[Tensor]:
    dataset = webdataset.WebDataset(list(urls), shardshuffle=False, empty_check=False).to_tuple(LATENT_EXTENSION)
    dataset = dataset.map(_decode_tuple).batched(BATCH_SIZE, collation_fn=torch.stack)
    yield from webdataset.WebLoader(dataset, batch_size=None, num_workers=WORKERS)


def _decode_tuple(members: tuple[bytes]) -> Tensor:
    return _decode(members[0])


def _decode(payload: bytes) -> Tensor:
    latent: Tensor = load(payload)["latent"].float()
    return latent


def load_with_litdata(path: str, endpoint: str, cache: Path) -> Iterator[Tensor]:
    import litdata
    from litdata.streaming import downloader

    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # litdata has no setting for servers without TLS
    options = {"endpoint_url": endpoint, "aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    dataset = litdata.StreamingDataset(
        path, cache_dir=str(cache), shuffle=False, drop_last=False, storage_options=options
    )
    yield from litdata.StreamingDataLoader(
        dataset, batch_size=BATCH_SIZE, num_workers=WORKERS, collate_fn=_decode_and_stack
    )


def _decode_and_stack(stored: Sequence[dict[str, bytes]]) -> Tensor:
    return torch.stack([_decode(sample["latent"]) for sample in stored])


def download(port: int, names: Sequence[str]) -> int:
    """Download files with two connections, and return the number of bytes."""

    def read(part: Sequence[str]) -> int:
        connection, total = http.client.HTTPConnection("127.0.0.1", port), 0
        for name in part:
            connection.request("GET", f"/{BUCKET}/{name}")
            answer = connection.getresponse()
            while chunk := answer.read(1 << 20):
                total += len(chunk)
        connection.close()
        return total

    with ThreadPoolExecutor(2) as threads:
        return sum(threads.map(read, (names[::2], names[1::2])))


def time_pass(load: Load, samples: int) -> float:
    """Return how many seconds pass from the start to the last sample."""
    start, end, count = time.perf_counter(), 0.0, 0
    for latents in load():
        count += len(latents)
        end = time.perf_counter()
    if count != samples:
        raise RuntimeError(f"loaded {count} of {samples} samples")
    return end - start


def main(arguments: Sequence[str] | None = None) -> None:
    args = argument_parser(__doc__).parse_args(arguments)
    print_machine()
    samples, samples_per_shard, rounds = (48, 4, 1) if args.quick else (400, 25, 2)
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_DEFAULT_REGION="us-east-1")
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data").mkdir()
        build_data(folder / "data", samples, samples_per_shard)
        shards = sorted((folder / "data" / "shards" / "train").glob("*.tar"))
        names = [f"shards/train/{path.name}" for path in shards]
        megabytes = sum(path.stat().st_size for path in shards) / 1e6
        with seaweedfs(folder) as server:
            os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server}"
            upload(folder / "data")
            with limited_line(server) as port:
                endpoint = os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
                address = f"s3://{BUCKET}/shards"
                urls = [f"{endpoint}/{BUCKET}/{name}" for name in names]

                for number in range(rounds):
                    os.environ["POCKETDIT_SHARD_CACHE"] = str(folder / f"cache-{number}")
                    loads: dict[str, Load] = {
                        "data module, cold": partial(load_with_data_module, address),
                        "data module, warm": partial(load_with_data_module, address),
                        "data module, local": partial(load_with_data_module, str(folder / "data" / "shards")),
                        "webdataset": partial(load_with_webdataset, urls),
                    }
                    if (folder / "data" / "chunks").exists():
                        chunks, cache = f"s3://{BUCKET}/chunks", folder / f"litdata-{number}"
                        loads["litdata"] = partial(load_with_litdata, chunks, endpoint, cache)
                    start = time.perf_counter()
                    if download(port, names) < megabytes * 1e6:
                        raise RuntimeError("the download is incomplete")
                    seconds.setdefault("download", []).append(time.perf_counter() - start)
                    for name, load_samples in loads.items():
                        seconds.setdefault(name, []).append(time_pass(load_samples, samples))
    report(megabytes, seconds, args.json)


def report(megabytes: float, seconds: dict[str, list[float]], path: Path | None) -> None:
    raw = median(seconds["download"])
    rows: list[dict[str, Any]] = [
        {"loader": name, "mb_per_second": megabytes / median(values), "of_download": raw / median(values)}
        for name, values in seconds.items()
    ]
    print(f"{megabytes:.0f} MB, {RATE / 1e6:.0f} MB/s, {1000 * LATENCY:.0f} ms, {WORKERS} worker, window {WINDOW}\n")
    cells = [[row["loader"], f"{row['mb_per_second']:.1f}", f"{row['of_download']:.2f}"] for row in rows]
    print(table(["loader", "MB/s", "of the download"], cells), end="\n\n")
    ratio = raw / median(seconds["data module, cold"])
    met = ratio >= REQUIRED
    print(f"ratio: data module, cold / download = {ratio:.2f}, required {REQUIRED}: {verdict(met)}")
    write_result(
        {"benchmark": "streaming", "rows": rows, "seconds": seconds, "ratio": ratio, "required": REQUIRED, "met": met},
        path,
    )


if __name__ == "__main__":
    main()
