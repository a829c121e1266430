"""Files that an evaluation needs: fetched from a server or a folder, checked, never half there."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evaluation import assets
from evaluation.assets import Asset, fetch, needed, require
from evaluation.settings import Evaluation
from pocketdit.config.component import Component
from pocketdit.errors import RunError, UserError

CONTENT = b"prompts\n" * 1000
KIND = "evaluation.prompts.file.PromptFile"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A loopback server with the one file."""
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "p.txt").write_bytes(CONTENT)

    class Quiet(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/half.txt":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def settings(path: Path) -> Evaluation:
    inner = Component(KIND, {"path": path})
    metric = Component("m.Metric", {"prompts": "p", "parts": [{"deep": inner}]})
    return Evaluation("x", Component("s.Subject", {"run": "r"}), {"p": Component("q.Set")}, (metric,))


def offer(monkeypatch: pytest.MonkeyPatch, url: str, sha256: str = hashlib.sha256(CONTENT).hexdigest()) -> None:
    monkeypatch.setattr(assets, "ASSETS", {KIND: (Asset("path", "", url, sha256, len(CONTENT)),)})


def test_a_file_is_fetched_once_and_checked(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(monkeypatch, f"{server}/p.txt")
    target = tmp_path / "data" / "prompts.txt"
    with pytest.raises(UserError, match=r"1 files are missing.*\n.*prompts.txt \(8 kB\) from http"):
        require(settings(target))
    fetch(settings(target))
    assert target.read_bytes() == CONTENT and [path.name for path in target.parent.iterdir()] == [target.name]
    require(settings(target))
    fetch(settings(target))
    assert "there     " in capsys.readouterr().out
    target.write_bytes(b"damaged")
    with pytest.raises(UserError, match="wrong checksum"):
        fetch(settings(target))


def test_a_wrong_checksum_or_a_dead_server_leaves_nothing(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "data" / "prompts.txt"
    offer(monkeypatch, f"{server}/p.txt", sha256="0" * 64)
    with pytest.raises(UserError, match=r"^http.*/p.txt: wrong checksum .*; take another copy"):
        fetch(settings(target))
    offer(monkeypatch, f"{server}/none.txt")
    with pytest.raises(RunError, match="404"):
        fetch(settings(target))
    offer(monkeypatch, "http://127.0.0.1:9/p.txt")
    with pytest.raises(RunError, match="refused"):
        fetch(settings(target))
    offer(monkeypatch, f"{server}/half.txt", sha256="")
    with pytest.raises(RunError, match="only 4000 of 8000 bytes came"):
        fetch(settings(target))
    assert list(target.parent.iterdir()) == []


def test_an_air_gapped_machine_takes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "http://127.0.0.1:9/p.txt")
    target, source = tmp_path / "data" / "prompts.txt", tmp_path / "stick"
    with pytest.raises(UserError, match="no such folder"):
        fetch(settings(target), source)
    source.mkdir()
    with pytest.raises(UserError, match=r"lacks 1 of 1 files: p.txt"):
        fetch(settings(target), source)
    (source / "p.txt").write_bytes(CONTENT)
    fetch(settings(target), source)
    assert target.read_bytes() == CONTENT


def test_files_of_several_folders_have_names_of_their_own() -> None:
    judges = [
        Component("evaluation.judges.blip.BlipAnswerer", {"path": "weights/blip"}),
        Component("evaluation.judges.mplug.MPlugAnswerer", {"folder": "weights/mplug"}),
    ]
    metric = Component("m.Metric", {"judges": judges})
    names = [item.name for item in needed(Evaluation("x", Component("s.S"), {}, (metric,)))]
    assert len(set(names)) == len(names) and {"blip/vocab.txt", "mplug/vocab.txt"} < set(names)


def test_components_inside_others_count() -> None:
    deep = Component("evaluation.judges.mask2former.Mask2FormerDetector", {"weights": "w.pth"})
    metric = Component("evaluation.metrics.geneval.metric.GenEval", {"prompts": "g", "detector": deep})
    tagged = Component(
        "evaluation.judges.open_clip_encoder.OpenClip", {"model": "ViT-B-32-quickgelu", "weights": "openai"}
    )
    other = Component("evaluation.judges.open_clip_encoder.OpenClip", {"model": "ViT-H-14", "weights": "h.safetensors"})
    dino = Component("evaluation.judges.dinov2.DinoV2", {"weights": "dino.safetensors"})
    prompts = {"g": Component("evaluation.prompts.geneval.GenEvalPrompts", {"folder": "data"})}
    found = needed(Evaluation("x", Component("s.S"), prompts, (metric, tagged, other, dino)))
    assert [str(item.target) for item in found] == [
        "data/geneval/evaluation_metadata.jsonl", "w.pth", "dino.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", assets.ASSETS)
def test_assets_belong_to_classes_that_take_their_argument(kind: str) -> None:
    from pocketdit.config.signature import signature

    for asset in assets.ASSETS[kind]:
        assert asset.argument in signature(kind).parameters
        assert asset.url.startswith("https://") and asset.bytes > 0
