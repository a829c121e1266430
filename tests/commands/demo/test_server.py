"""Tests for the server of a playground, without a browser."""

import json
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from pocketdit.commands.demo import jobs
from pocketdit.commands.demo.gallery import Gallery
from pocketdit.commands.demo.jobs import Job
from pocketdit.commands.demo.sampling import sample
from pocketdit.commands.demo.settings import Demo
from pocketdit.commands.demo.subjects import Models, Subject, find_subjects
from pocketdit.commands.main import main
from tests.commands.demo.conftest import Playground, next_event, running_playground
from tests.export.conftest import tiny_run

SETTINGS = (("steps", 3), ("sampler", "heun"), ("guidance", 2.5), ("seed", 7), ("size", "64x96"))
AGAINST = (("against.run", "elastic_pretrain/u"), ("against.width", 1), ("against.steps", 2), ("against.guidance", 1))
PROMPTS = ("a red circle", "-two 'green' stars", "<script>alert(1)</script>")
LONG = (("prompt", "long"), ("steps", 10_000), ("width", 0.5))


@pytest.fixture(scope="module")
def playground(subjects: list[Subject], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    with running_playground(subjects, tmp_path_factory.mktemp("playground")) as running:
        yield running


def pictures(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [picture["settings"] for event in events if event["event"] == "pictures" for picture in event["pictures"]]


def pixels(path: Path) -> tuple[tuple[int, int], bytes]:
    with Image.open(path) as image:
        return image.size, image.tobytes()


def test_images_equal_those_of_lightning_sample(playground: Playground, runs: Path, tmp_path: Path) -> None:
    """The commands that the page shows write the same pixels, text chunks and metadata."""
    prompts = [("prompt", text) for text in PROMPTS]
    events = playground.sample(*prompts, *SETTINGS, ("decoder", "tiny_decoder/d"), *AGAINST)
    shown = pictures(events)
    assert [(line["run"], line["width"], line["text"]) for line in shown] == [
        (run, width, text)
        for run, width in (("elastic_pretrain/t", 0.5), ("elastic_pretrain/t", 1.0), ("elastic_pretrain/u", 1.0))
        for text in PROMPTS
    ]
    sampled: list[tuple[Path, dict[str, Any]]] = []
    for number, command in enumerate(events[-1]["commands"]):
        program, *words = shlex.split(command)
        assert program == "lightning"
        out = tmp_path / str(number)
        words[words.index("--out") + 1] = str(out)
        assert main([*words[:2], "--runs", str(runs), *words[2:]]) == 0
        for metadata in sorted(out.rglob("metadata.jsonl")):
            lines = [json.loads(line) for line in metadata.read_text().splitlines()]
            sampled += [(metadata.parent / line["file_name"], line) for line in lines]
    assert len(sampled) == len(shown) == 9
    for line, (path, expected) in zip(shown, sampled, strict=True):
        own = playground.gallery.file(line["file_name"])
        assert own is not None
        assert pixels(own) == pixels(path)
        with Image.open(own) as a, Image.open(path) as b:
            assert a.info == b.info
            assert a.info["Copyright"] == "Drawn by A.\n"
        assert {**line, "file_name": ""} == {**expected, "file_name": ""}
    last = [json.loads(line) for line in (playground.gallery.folder / "metadata.jsonl").read_text().splitlines()]
    assert last[-9:] == shown


def test_progress_counts_the_steps_of_all_widths(playground: Playground) -> None:
    events = playground.sample(("prompt", "a"), *SETTINGS)
    steps = [event for event in events if event["event"] == "step"]
    assert {event["steps"] for event in steps} == {6}
    assert [event["step"] for event in steps] == sorted(event["step"] for event in steps)
    assert steps[0]["left"] is None
    assert all(event["left"] >= 0 for event in steps[1:])
    sampled = [event for event in events if event["event"] == "pictures"]
    assert [event["width"] for event in sampled] == [0.5, 1.0]
    assert all(event["seconds"] == sum(picture["seconds"] for picture in event["pictures"]) > 0 for event in sampled)
    assert events[-1]["event"] == "done"
    assert events[-1]["same_noise"]


def test_networks_are_loaded_once_when_they_are_needed(subjects: list[Subject], tmp_path: Path) -> None:
    with running_playground(subjects, tmp_path) as playground:
        assert not any(map(playground.models.is_loaded, subjects))
        first = playground.sample(("prompt", "a"), ("steps", 1))
        assert [event["run"] for event in first if event["event"] == "loading"] == ["elastic_pretrain/t"]
        model = playground.models.load(subjects[0], "autoencoder")
        second = playground.sample(("prompt", "a"), ("steps", 1), ("decoder", "tiny_decoder/d"), *AGAINST)
        assert [event["run"] for event in second if event["event"] == "loading"] == ["elastic_pretrain/u"]
        assert playground.models.load(subjects[0], "tiny_decoder/d").network is model.network


def test_requests_wait_for_each_other_and_are_canceled_when_the_client_disconnects(playground: Playground) -> None:
    before = len(playground.gallery.pictures())
    running = playground.start(*LONG)
    while next_event(running)["event"] != "step":
        pass
    second, third = playground.start(*LONG), playground.start(("prompt", "third"), ("steps", 1), ("width", 0.5))
    assert next_event(second) == {"event": "waiting", "ahead": 1}
    assert next_event(third) == {"event": "waiting", "ahead": 2}
    second.close()
    assert next_event(third) == {"event": "waiting", "ahead": 1}
    assert len(playground.gallery.pictures()) == before
    running.close()
    events = [json.loads(line) for line in third.read().splitlines()]
    assert [event["event"] for event in events] == ["step", "pictures", "done"]
    assert [picture.line["text"] for picture in playground.gallery.pictures()[before:]] == ["third"]


def test_a_full_queue_refuses_requests(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MAX_WAITING", 2)
    running = playground.start(*LONG)
    while next_event(running)["event"] != "step":
        pass
    waiting = [playground.start(*LONG) for _ in range(2)]
    refused = playground.start(*LONG)
    assert refused.status == 503
    assert b"queue is full" in refused.read()
    for response in (*waiting, running):
        response.close()
    assert playground.sample(("prompt", "a"), ("steps", 1))[-1]["event"] == "done"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("steps", 0)], "steps: must be from 1 to 10,000, not 0"),
        ([("steps", "ten")], "steps: expected int, got 'ten'"),
        ([("steps", 1), ("steps", 2)], "steps: occurs twice"),
        ([("sampler", "heunn")], "did you mean 'heun'?"),
        ([("guidance", "nan")], "guidance: must be finite"),
        ([("guidance", -1)], "guidance: must be from 0 to 1,000, not -1"),
        ([("width", 0.7)], "width=0.7: elastic_pretrain/t only has the widths 0.5, 1"),
        ([("size", "64x")], "size=64x: must be HEIGHTxWIDTH in pixels"),
        ([("size", "64x65")], "sampling.size: both sides must be multiples of 32 pixels"),
        ([("size", "65536x65536")], "size: sampling 65536x65536 pixels needs at least"),
        ([("seed", "1" * 5000)], "seed: "),
        ([("decoder", "/etc/passwd")], "decoder: '/etc/passwd' is not one of autoencoder, tiny_decoder/d"),
        ([("run", "../../secret")], "run: this playground shows elastic_pretrain/t, not ../../secret"),
        ([("against.run", "elastic_pretrain/t")], "against.run: this playground shows elastic_pretrain/u"),
        ([("against.step", 1)], "against.step: unknown setting; did you mean 'against.steps'?"),
        ([("prompt", "two\nlines")], "prompt: a prompt must be a single line"),
        ([("prompt", "a")] * 65, "prompt: a request may have at most 64 prompts, not 65"),
        ([("prompt", "a")] * 300, "the link is damaged, or contains more than 256 settings"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(
    playground: Playground, pairs: list[tuple[str, object]], message: str
) -> None:
    response = playground.start(*pairs)
    text = response.read().decode()
    assert (response.status, message in text, text.count("\n")) == (400, True, 0), text
    page = playground.ask(f"/?{urlencode(pairs)}")
    assert page.status == 400
    assert 'role="alert">' in page.read().decode()


def test_widths_and_sizes_are_refused_as_by_lightning_sample(
    playground: Playground, runs: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["sample", "elastic_pretrain/t", "a", "--runs", str(runs), "--out", str(tmp_path / "a.png")]
    for name, value in (("width", "0.7"), ("size", "64x65"), ("steps", "20000")):
        assert main([*words, f"--{name}", value]) == 2
        error = capsys.readouterr().err.removeprefix("lightning sample: ").strip()
        answer = playground.start((name, value)).read().decode()
        assert answer.partition("m")[2].replace("'", "") == error.replace("--", "").partition("m")[2].replace("'", "")


def test_links_are_shown_as_text(playground: Playground) -> None:
    prompt = '</textarea><script>alert(1)</script>"'
    page = playground.ask(f"/?{urlencode([('prompt', prompt), ('seed', 5)])}").read().decode()
    assert "&lt;/textarea&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#34;" in page
    assert "<script>alert" not in page
    assert 'value="5"' in page
    error = playground.ask("/?%3Cscript%3E=1").read().decode()
    assert "&lt;script&gt;: unknown setting" in error
    assert "<script>:" not in error


@pytest.mark.parametrize(
    "path",
    ["/images/metadata.jsonl", "/images/../metadata.jsonl", "/images/..%2fmetadata.jsonl", "/images/..%5c..%5cx.png",
     "/images/%2e%2e/%2e%2e/etc/passwd", "/images//etc/passwd", "/images/99999.png", "/images/00000.png%00",
     "/page.js/../app.py", "/app.py", "/%2e%2e/app.py", "/runs", "//etc/passwd"],
)  # fmt: skip
def test_no_other_files_are_served(playground: Playground, path: str) -> None:
    playground.sample(("prompt", "a"), ("steps", 1), ("width", 0.5))
    assert playground.ask(path).status == 404
    image = playground.ask("/images/00000.png")
    assert (image.headers["Content-Type"], image.headers["Cache-Control"]) == ("image/png", "no-cache")


def test_large_and_foreign_requests_are_refused(playground: Playground) -> None:
    before = len(playground.gallery.pictures())
    assert playground.ask("/sample", "prompt=" + "a" * 300_000).status == 413
    assert playground.ask("/sample", "prompt=a", Origin="http://attacker.example").status == 403
    assert playground.ask("/sample", "prompt=a", Host="attacker.example").status == 403
    assert playground.ask("/sample").status == 405
    assert len(playground.gallery.pictures()) == before


def test_images_that_cannot_be_saved_are_reported(subjects: list[Subject], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with running_playground(subjects, tmp_path / "file") as playground:
        event = playground.sample(("prompt", "a"), ("steps", 1))[-1]
    assert event["event"] == "error"
    assert event["text"].startswith("the images cannot be saved (")
    assert str(tmp_path) not in event["text"]


def test_images_with_nan_are_refused(tmp_path: Path) -> None:
    folder = tiny_run(tmp_path / "runs", "t")
    save_file({name: 1e30 * value for name, value in load_file(folder.weights).items()}, folder.weights)
    subjects = find_subjects(Demo("elastic_pretrain", runs=tmp_path / "runs"))
    with running_playground(subjects, tmp_path / "out") as playground:
        event = playground.sample(("prompt", "a"), ("steps", 1))[-1]
    assert event["event"] == "error"
    assert event["text"].startswith("elastic_pretrain/t at width 0.5: 1 of 1 images contain NaN or infinity")
    assert not (tmp_path / "out").exists()


def test_an_internal_error_does_not_stop_the_worker(
    subjects: list[Subject], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail_once(job: Job, models: Models, gallery: Gallery) -> None:
        if job.request.sampling.seed == 13:
            raise ArithmeticError("secret")
        sample(job, models, gallery)

    with running_playground(subjects, tmp_path, fail_once) as playground:
        event = playground.sample(("seed", 13))[-1]
        assert event["event"] == "error"
        assert "secret" not in event["text"]
        assert playground.sample(("steps", 1))[-1]["event"] == "done"
    assert "ArithmeticError: secret" in capfd.readouterr().err


def test_many_clients_at_once_get_their_own_images(playground: Playground) -> None:
    results: dict[int, list[dict[str, Any]]] = {}

    def client(seed: int) -> None:
        results[seed] = playground.sample(("prompt", f"{seed}"), ("seed", seed), ("steps", 1), ("width", 0.5))

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, events in results.items():
        assert [(line["text"], line["seed"]) for line in pictures(events)] == [(f"{seed}", seed)]
    names = [picture.line["file_name"] for picture in playground.gallery.pictures()]
    assert len(names) == len(set(names))
    listed = json.loads(playground.ask("/gallery").read())
    assert [picture["settings"]["file_name"] for picture in listed] == names
