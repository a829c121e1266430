"""Tests that the files that an evaluation needs are downloaded or copied, verified, and never left incomplete."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evaluation.assets import Asset, check_files, fetch_files, required_files
from evaluation.judges.blip import BlipAnswerer
from evaluation.judges.owlv2 import Owlv2Detector
from evaluation.prompts.file import PromptFile
from evaluation.settings import Evaluation
from pocketdit.config.component import Component
from pocketdit.config.importing import import_class
from pocketdit.errors import RunError, UserError

CONTENT = b"prompts\n" * 1000
SUBJECT = Component("evaluation.subjects.run.Run", {"run": "r"})
GENEVAL = "evaluation.metrics.geneval.metric.GenEval"
OPEN_CLIP = "evaluation.judges.open_clip_encoder.OpenClip"
PROMPT_FILE = "evaluation.prompts.file.PromptFile"
CLASSES_WITH_ASSETS = (
    "evaluation.prompts.geneval.GenEvalPrompts",
    "evaluation.prompts.geneval2.GenEval2Prompts",
    "evaluation.prompts.dpg.DPGPrompts",
    "evaluation.prompts.compbench.CompBenchPrompts",
    "evaluation.judges.mask2former.Mask2FormerDetector",
    "evaluation.judges.clip_colors.ClipColorReader",
    "evaluation.judges.dinov2.DinoV2",
    "evaluation.judges.mplug.MPlugAnswerer",
    "evaluation.judges.blip.BlipAnswerer",
    "evaluation.judges.owlv2.Owlv2Detector",
    OPEN_CLIP,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve the files p.txt and half.txt, and return the URL. Transfers of half.txt stop halfway."""
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "p.txt").write_bytes(CONTENT)

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/half.txt":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def settings(path: Path) -> Evaluation:
    """Return an evaluation with a nested component that reads ``path``."""
    nested = Component(PROMPT_FILE, {"path": path})
    metric = Component(GENEVAL, {"prompts": "p", "parts": [{"deep": nested}]})
    return Evaluation("x", SUBJECT, {"p": Component("evaluation.prompts.scenes.SceneGenEval")}, (metric,))


def declare_asset(monkeypatch: pytest.MonkeyPatch, url: str, sha256: str = hashlib.sha256(CONTENT).hexdigest()) -> None:
    monkeypatch.setattr(PromptFile, "assets", (Asset("path", "", url, sha256, len(CONTENT)),), raising=False)


def test_a_users_own_model_folder_needs_no_published_files(tmp_path: Path) -> None:
    """The user's folder may, for example, contain the tokenizer in one file instead of three."""
    judge = Component("evaluation.judges.owlv2.Owlv2Detector", {"path": tmp_path / "own"})
    metric = Component(GENEVAL, {"prompts": "p", "detector": judge})
    evaluation = Evaluation("x", SUBJECT, {"p": Component("evaluation.prompts.scenes.SceneGenEval")}, (metric,))
    (tmp_path / "own").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "own" / name).write_text("{}")
    assert "model.safetensors" in [file.target.name for file in required_files(evaluation)]
    (tmp_path / "own" / "model-00001-of-00002.safetensors").write_text("")
    assert required_files(evaluation) == []
    assert all(asset.path.endswith(".safetensors") for asset in (Owlv2Detector.assets[-1], BlipAnswerer.assets[-1]))


def test_file_is_downloaded_once_and_verified(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declare_asset(monkeypatch, f"{server}/p.txt")
    target = tmp_path / "data" / "prompts.txt"
    with pytest.raises(UserError, match=r"1 file missing.*\n.*prompts.txt \(8 kB\) from http"):
        check_files(settings(target))
    fetch_files(settings(target))
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    check_files(settings(target))
    fetch_files(settings(target))
    assert "exists    " in capsys.readouterr().out
    target.write_bytes(b"damaged")
    with pytest.raises(UserError, match="wrong checksum"):
        fetch_files(settings(target))


def test_failed_downloads_leave_no_files(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "data" / "prompts.txt"
    declare_asset(monkeypatch, f"{server}/p.txt", sha256="0" * 64)
    with pytest.raises(UserError, match=r"^http.*/p.txt: wrong checksum .*; use another copy"):
        fetch_files(settings(target))
    declare_asset(monkeypatch, f"{server}/none.txt")
    with pytest.raises(RunError, match="404"):
        fetch_files(settings(target))
    declare_asset(monkeypatch, "http://127.0.0.1:9/p.txt")
    with pytest.raises(RunError, match="refused"):
        fetch_files(settings(target))
    declare_asset(monkeypatch, f"{server}/half.txt", sha256="")
    with pytest.raises(RunError, match="4000 bytes read, 4000 more expected"):
        fetch_files(settings(target))
    assert list(target.parent.iterdir()) == []


def test_prefix_of_a_checksum_is_verified(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    declare_asset(monkeypatch, f"{server}/p.txt", sha256=digest[:8])
    fetch_files(settings(tmp_path / "p.txt"))
    declare_asset(monkeypatch, f"{server}/p.txt", sha256="0" * 8)
    with pytest.raises(UserError, match=f"wrong checksum {digest}, expected 00000000"):
        fetch_files(settings(tmp_path / "p.txt"))


def test_digest_is_printed_if_the_publisher_does_not_state_it(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declare_asset(monkeypatch, f"{server}/p.txt", sha256="")
    fetch_files(settings(tmp_path / "p.txt"))
    assert f"sha256 {hashlib.sha256(CONTENT).hexdigest()}" in capsys.readouterr().out


def test_air_gapped_machine_copies_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare_asset(monkeypatch, "http://127.0.0.1:9/p.txt")
    target, source = tmp_path / "data" / "prompts.txt", tmp_path / "stick"
    with pytest.raises(UserError, match="no such folder"):
        fetch_files(settings(target), source)
    source.mkdir()
    with pytest.raises(UserError, match=r"--from .*stick: 1 of 1 file missing: p.txt"):
        fetch_files(settings(target), source)
    (source / "p.txt").write_bytes(CONTENT)
    fetch_files(settings(target), source)
    assert target.read_bytes() == CONTENT


def test_files_from_different_folders_have_distinct_names() -> None:
    judges = [
        Component("evaluation.judges.blip.BlipAnswerer", {"path": "weights/blip"}),
        Component("evaluation.judges.mplug.MPlugAnswerer", {"folder": "weights/mplug"}),
    ]
    metric = Component(GENEVAL, {"judges": judges})
    names = [file.name for file in required_files(Evaluation("x", SUBJECT, {}, (metric,)))]
    assert len(set(names)) == len(names)
    assert {"blip/vocab.txt", "mplug/vocab.txt"} < set(names)


def test_files_of_nested_components_are_included_but_not_those_of_other_models() -> None:
    detector = Component("evaluation.judges.mask2former.Mask2FormerDetector", {"weights": "w.pth"})
    metric = Component(GENEVAL, {"prompts": "g", "detector": detector})
    tagged = Component(OPEN_CLIP, {"model": "ViT-B-32-quickgelu", "weights": "openai"})
    other = Component(OPEN_CLIP, {"model": "ViT-H-14", "weights": "h.safetensors"})
    dino = Component("evaluation.judges.dinov2.DinoV2", {"weights": "dino.safetensors"})
    prompts = {"g": Component("evaluation.prompts.geneval.GenEvalPrompts", {"folder": "data"})}
    files = required_files(Evaluation("x", SUBJECT, prompts, (metric, tagged, other, dino)))
    assert [str(file.target) for file in files] == [
        "data/geneval/evaluation_metadata.jsonl", "w.pth", "dino.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("class_path", CLASSES_WITH_ASSETS)
def test_assets_refer_to_arguments_of_their_class(class_path: str) -> None:
    from pocketdit.config.component import arguments

    assets = import_class(class_path).assets
    assert assets
    for asset in assets:
        assert asset.argument in arguments(import_class(class_path))[0]
        assert asset.url.startswith("https://")
        assert asset.size > 0
