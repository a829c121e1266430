"""Fixtures that provide runs with random weights, and playgrounds that show them."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import torch
from safetensors.torch import load_file, save_file

from pocketdit.artifacts.run_folder import RunFolder, create
from pocketdit.commands.demo.app import MAX_BODY, build_app
from pocketdit.commands.demo.gallery import Gallery
from pocketdit.commands.demo.jobs import Job, Jobs
from pocketdit.commands.demo.sampling import sample
from pocketdit.commands.demo.settings import Demo
from pocketdit.commands.demo.subjects import Models, Subject, find_subjects
from pocketdit.config.experiment import DecoderExperiment
from pocketdit.config.load import load
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.serving.guard import Guard, allowed_on
from pocketdit.serving.ports import listen
from pocketdit.serving.server import running
from tests.conftest import ROOT
from tests.export.conftest import tiny_run

Work = Callable[[Job, Models, Gallery], None]


class Stopped(BaseException):
    """Raised in the worker thread of a playground to end the thread."""


def decoder_run(runs: Path, name: str, *overrides: str) -> RunFolder:
    """Create the folder of a run that trained a tiny decoder, with random weights."""
    loaded = load(ROOT / "experiments" / "tiny_decoder.yaml",
                  ["decoder.channels=[16, 8]", "decoder.blocks=[1, 1]", *overrides], DecoderExperiment)  # fmt: skip
    folder = create(runs, "tiny_decoder", name, loaded.to_yaml())
    torch.manual_seed(1)
    weights = TinyDecoder(loaded.config.decoder).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, folder.weights)
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with elastic_pretrain/t, elastic_pretrain/u (with different weights), and the decoder tiny_decoder/d."""
    folder = tmp_path_factory.mktemp("demo") / "runs"
    tiny_run(folder, "t")
    other = tiny_run(folder, "u")
    save_file({name: 0.8 * value for name, value in load_file(other.weights).items()}, other.weights)
    decoder_run(folder, "d")
    return folder


@pytest.fixture(scope="session")
def subjects(runs: Path) -> list[Subject]:
    """The runs t and u together with the decoder d."""
    settings = Demo("elastic_pretrain/t", against="elastic_pretrain/u", decoder="tiny_decoder/d", runs=runs)
    return find_subjects(settings)


@dataclass
class Playground:
    """A running playground."""

    port: int
    jobs: Jobs
    gallery: Gallery
    models: Models

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, path: str, body: str | None = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET" if body is None else "POST", path, body, headers)
        return connection.getresponse()

    def start(self, *pairs: tuple[str, object]) -> http.client.HTTPResponse:
        """Request images, and return the response while its events arrive."""
        return self.ask("/sample", urlencode(pairs))

    def sample(self, *pairs: tuple[str, object]) -> list[dict[str, Any]]:
        """Request images, and return all events."""
        response = self.start(*pairs)
        assert response.status == 200, response.read()
        return [json.loads(line) for line in response.read().splitlines()]


def next_event(response: http.client.HTTPResponse) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(response.readline())
    return event


@contextmanager
def running_playground(subjects: list[Subject], out: Path, sample: Work = sample) -> Iterator[Playground]:
    """Serve a playground whose worker runs in a separate thread instead of the main thread."""
    jobs, gallery, models = Jobs(), Gallery(out), Models()
    stopping = threading.Event()

    def sample_unless_stopping(job: Job) -> None:
        if stopping.is_set():
            raise Stopped
        sample(job, models, gallery)

    def work() -> None:
        with suppress(Stopped):
            jobs.work(sample_unless_stopping)

    app = Guard(build_app(subjects, jobs, gallery), allowed_on("127.0.0.1"), MAX_BODY)
    worker = threading.Thread(target=work)
    with listen("127.0.0.1", 6200) as listener, running(app, listener):
        playground = Playground(listener.getsockname()[1], jobs, gallery, models)
        worker.start()
        try:
            yield playground
        finally:
            stopping.set()
            playground.start(("prompt", "")).read()
            worker.join()
