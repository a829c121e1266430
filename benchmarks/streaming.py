"""Measure how fast training data arrive from an S3 server on this machine, in MB/s.

The data set stores latents of 1024x1024-pixel images (0.5 MB each), which are quick to decode, so that the connection
is the bottleneck. A proxy delays every response and limits the bandwidth. The data module is timed with an empty cache
("cold"), with all shards in its cache ("warm"), and on local files. webdataset streams the same shards over HTTP, and
litdata streams the same samples as chunks. Both start without a cache. "download" reads the shards with plain HTTP
connections and discards them. webdataset and litdata do not shuffle; the data module shuffles within its windows.

A pass includes the start of the loader: opening the data set, the worker process, and the connections. The report
shows when the first batch arrives, how long the middle half of the samples takes, and how much processor time is
used by the loader, by the server and the proxy, which share the processors with it, and by all other programs. The same
values are measured for latents and JPEG images in local files, which need no connection.

    python -m benchmarks.streaming [--json PATH] [--quick]
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NamedTuple

import fsspec
from torch import Tensor

from benchmarks.storage_proxy import StorageProxy
from benchmarks.storage_server import ACCESS_KEY, SECRET_KEY, seaweedfs
from benchmarks.streaming_loaders import (
    CONNECTIONS,
    WINDOW,
    WORKERS,
    download,
    image_samples,
    latent_samples,
    load_with_data_module,
    load_with_litdata,
    load_with_webdataset,
    write_chunks,
    write_images,
    write_latents,
)
from benchmarks.timing import argument_parser, print_machine, table, verdict, write_result

BUCKET = "streaming"
LATENCY, RATE = 0.02, 100e6
REQUIRED = 0.9
DISTURBED = 0.1  # processors that other programs may use on average
COLD, LOCAL, IMAGES = "data module, cold", "data module, local", "data module, local images"
Load = Callable[[], Iterator[Tensor]]


class Pass(NamedTuple):
    """One pass over the data.

    Attributes:
        seconds: Time from the start to the last sample.
        first: Time from the start to the first batch; 0 for the download.
        half: Time in which the middle half of the samples arrives; half of ``seconds`` for the download.
        own: Processor seconds of the loader's processes.
        server: Processor seconds of the server and the proxy.
        others: Processor seconds of all other processes on the machine, which disturb the measurement.
    """

    seconds: float
    first: float
    half: float
    own: float
    server: float
    others: float


def upload(folder: Path, names: Sequence[str]) -> None:
    client = fsspec.filesystem("s3", skip_instance_cache=True)
    client.mkdir(BUCKET)
    for path in sorted(path for name in names for path in (folder / name).rglob("*") if path.is_file()):
        if path.name != ".lock":
            client.put_file(str(path), f"{BUCKET}/{path.relative_to(folder)}")


@contextmanager
def limited_line(upstream: int) -> Iterator[int]:
    """Run the proxy in a separate process, and yield its port."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run_proxy, args=(upstream, there), daemon=True)
    process.start()
    there.close()  # so that recv fails instead of blocking if the process exits
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def _run_proxy(upstream: int, connection: Connection) -> None:
    with StorageProxy(upstream, latency=LATENCY, rate=RATE) as proxy:
        connection.send(proxy.port)
        time.sleep(3600)


def time_pass(load: Load, samples: int, servers: Sequence[int]) -> Pass:
    """Time a pass over all samples. ``servers`` contains the process IDs of the server and the proxy."""
    before, start, count = _processor_seconds(servers), time.perf_counter(), 0
    arrived: list[float] = []
    for batch in load():
        count += len(batch)
        arrived += [time.perf_counter() - start] * len(batch)
    if count != samples:
        raise RuntimeError(f"loaded {count} of {samples} samples")
    half = arrived[3 * samples // 4] - arrived[samples // 4]
    return Pass(arrived[-1], arrived[0], half, *_differences(before, servers))


def time_download(port: int, paths: Sequence[str], size: int, servers: Sequence[int]) -> Pass:
    """Time a plain download of all shards."""
    before, start = _processor_seconds(servers), time.perf_counter()
    if download(port, paths) != size:
        raise RuntimeError("the download is incomplete")
    seconds = time.perf_counter() - start
    return Pass(seconds, 0.0, seconds / 2, *_differences(before, servers))


def _processor_seconds(servers: Sequence[int]) -> tuple[float, float, float]:
    """Return how many processor seconds this process (with its exited children), the servers, and the machine used."""
    ticks = os.sysconf("SC_CLK_TCK")
    stats = [Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() for process in servers]
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    server = sum(int(stat[11]) + int(stat[12]) for stat in stats) / ticks
    return sum(os.times()[:4]), server, (user + nice + system + irq + softirq) / ticks


def _differences(before: tuple[float, float, float], servers: Sequence[int]) -> tuple[float, float, float]:
    own, server, machine = (now - then for now, then in zip(_processor_seconds(servers), before, strict=True))
    return own, server, max(0.0, machine - own - server)


def _children() -> list[int]:
    return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def main(arguments: Sequence[str] | None = None) -> None:
    args = argument_parser(__doc__).parse_args(arguments)
    print_machine()
    samples, images, rounds = (100, 16, 1) if args.quick else (800, 48, 2)
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_DEFAULT_REGION="us-east-1")
    passes: dict[str, list[Pass]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_latents(folder / "shards", latent_samples(samples))
        write_images(folder / "images", image_samples(images))
        has_chunks = write_chunks(folder / "chunks", list(latent_samples(samples)))
        shards = sorted((folder / "shards" / "train").glob("*.tar"))
        size = sum(path.stat().st_size for path in shards)
        image_size = sum(path.stat().st_size for path in (folder / "images" / "train").glob("*.tar"))
        with seaweedfs(folder) as server:
            os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server}"
            upload(folder, ["shards", "chunks"])
            with limited_line(server) as port:
                endpoint = os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
                servers = _children()
                paths = [f"/{BUCKET}/shards/train/{path.name}" for path in shards]
                for number in range(rounds):
                    os.environ["POCKETDIT_SHARD_CACHE"] = str(folder / f"cache-{number}")
                    loads: dict[str, Load] = {
                        COLD: partial(load_with_data_module, f"s3://{BUCKET}/shards"),
                        "data module, warm": partial(load_with_data_module, f"s3://{BUCKET}/shards"),
                        LOCAL: partial(load_with_data_module, str(folder / "shards")),
                        "webdataset": partial(load_with_webdataset, [endpoint + path for path in paths]),
                    }
                    if has_chunks:
                        cache = folder / f"litdata-{number}"
                        loads["litdata"] = partial(load_with_litdata, f"s3://{BUCKET}/chunks", endpoint, cache)
                    passes.setdefault("download", []).append(time_download(port, paths, size, servers))
                    for name, load_samples in loads.items():
                        passes.setdefault(name, []).append(time_pass(load_samples, samples, servers))
                    load_images = partial(load_with_data_module, str(folder / "images"))
                    passes.setdefault(IMAGES, []).append(time_pass(load_images, images, servers))
    report(size / 1e6, image_size / 1e6, passes, args.json)


def report(megabytes: float, image_megabytes: float, passes: dict[str, list[Pass]], path: Path | None) -> None:
    """Print and write the results, and lower bounds for the time of a pass with an empty cache."""
    typical = {name: Pass(*map(median, zip(*values, strict=True))) for name, values in passes.items()}
    sizes = {name: image_megabytes if name == IMAGES else megabytes for name in passes}
    rates = {name: sizes[name] / each.seconds for name, each in typical.items()}
    print(
        f"{megabytes:.0f} MB of latents, {image_megabytes:.0f} MB of images, {RATE / 1e6:.0f} MB/s, "
        f"{1000 * LATENCY:.0f} ms, {WORKERS} worker, window {WINDOW}, {CONNECTIONS} connections\n"
    )
    columns = ["seconds", "first batch", "middle half", "processor: loader", "server", "others"]
    cells = [
        [name, f"{rates[name]:.1f}", f"{rates[name] / rates['download']:.2f}", *(f"{value:.2f}" for value in each)]
        for name, each in typical.items()
    ]
    print(table(["loader", "MB/s", "of the download", *columns], cells), end="\n\n")
    cold, local = typical[COLD], typical[LOCAL]
    bounds = {
        "download": typical["download"].seconds,
        "decoding": local.seconds - local.first,
        "processors": (cold.own + cold.server) / (os.cpu_count() or 1),
    }
    largest = max(bounds, key=lambda name: bounds[name])
    print("lower bounds of a cold pass in seconds: " + ", ".join(f"{name} {bounds[name]:.2f}" for name in bounds))
    print(
        f"a cold pass takes {cold.seconds - bounds[largest]:.2f} s longer than the largest bound ({largest}): "
        f"{cold.first:.2f} s pass until the first batch, before which nothing is decoded; the rest is due to the last "
        "window, which is decoded after the download, and to contention between the loader and the server"
    )
    if cold.others > DISTURBED * cold.seconds:
        print(f"other programs used {cold.others:.2f} processor seconds at the same time, so the rates are too low")
    ratio, sustained = rates[COLD] / rates["download"], typical["download"].half / cold.half
    met = ratio >= REQUIRED
    print(f"ratio: {COLD} / download = {ratio:.2f} (at least {REQUIRED}): {verdict(met)}")
    print(f"middle half of the pass: {sustained:.2f} (at least {REQUIRED}): {verdict(sustained >= REQUIRED)}")
    write_result(
        {
            "benchmark": "streaming",
            "rows": [
                {"loader": name, "mb_per_second": rates[name], **each._asdict()} for name, each in typical.items()
            ],
            "seconds": {name: [each.seconds for each in values] for name, values in passes.items()},
            "bounds": bounds,
            "ratio": ratio,
            "sustained": sustained,
            "required": REQUIRED,
            "met": met,
        },
        path,
    )


if __name__ == "__main__":
    main()
