"""Tests for the notice that accompanies weights trained on data whose license requires attribution."""

from pathlib import Path

import pytest
from PIL import Image

from datamodules.scenes.generator import SceneGenerator
from datamodules.shards.attribution import Attribution
from datamodules.shards.build_generated import build_generated
from pocketdit.artifacts.notice import NOTICE, join_notices, read_notice, write_notice
from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.commands.main import main
from pocketdit.errors import RunError
from tests.conftest import PRETRAIN

LINE = "Drawn by A. License: CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"


def run_with(path: Path, notice: str | None = None) -> RunFolder:
    path.mkdir()
    if notice is not None:
        (path / NOTICE).write_text(notice)
    return RunFolder(path)


def test_notices_are_inherited_and_name_everybody_once(tmp_path: Path) -> None:
    parents = [run_with(tmp_path / "a", f"{LINE}\nB.\n"), run_with(tmp_path / "b", "B.\n"), run_with(tmp_path / "c")]
    child = run_with(tmp_path / "child")
    write_notice(child, "Own.", parents)
    assert read_notice(child) == f"Own.\n{LINE}\nB.\n"
    assert join_notices("x\n", "", "x\ny") == "x\ny\n"


def test_no_file_is_written_without_attributions(tmp_path: Path) -> None:
    child = run_with(tmp_path / "child")
    write_notice(child, None, [run_with(tmp_path / "parent")])
    assert read_notice(child) == ""
    assert not list(child.path.iterdir())


def test_an_unreadable_notice_is_an_error(tmp_path: Path) -> None:
    folder = run_with(tmp_path / "a")
    (folder.path / NOTICE).write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match=r"NOTICE.txt: cannot be read"):
        read_notice(folder)


def test_a_link_cannot_put_a_file_of_the_user_into_samples(tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("secret")
    folder = run_with(tmp_path / "a", "shared\n")
    (folder.path / NOTICE).rename(folder.path / "text")
    for target in ("../private.txt", str(tmp_path / "private.txt"), "/dev/zero"):
        (folder.path / NOTICE).symlink_to(target)
        with pytest.raises(RunError, match=r"NOTICE.txt is a link to .*, outside the folder .*; replace the link"):
            read_notice(folder)
        (folder.path / NOTICE).unlink()
    (folder.path / NOTICE).symlink_to("text")
    (tmp_path / "link").symlink_to(folder.path)
    assert read_notice(RunFolder(tmp_path / "link")) == "shared\n"


def test_a_run_and_its_samples_carry_the_attribution_of_the_data(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attribution = Attribution("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/", "Drawn by A.")
    build_generated(SceneGenerator(attribution=attribution), tmp_path / "set", 12, 4, progress=False)
    data = f"data.init_args.path={tmp_path / 'set'}"
    assert main(["run", str(PRETRAIN), *tiny, data, "training.max_steps=1", "--name", "r"]) == 0
    folder = RunFolder(tmp_path / "runs" / "elastic_pretrain" / "r")
    assert read_notice(folder) == f"{LINE}\n"
    capsys.readouterr()
    out = tmp_path / "grid.png"
    assert main(["sample", str(folder.path), "a red circle", "--steps", "1", "--out", str(out)]) == 0
    assert f"note: {LINE}" in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.info["Copyright"] == f"{LINE}\n"


def test_a_run_credits_the_authors_of_the_autoencoder(tiny: list[str], tmp_path: Path) -> None:
    learned = "autoencoder={class_path: pocketdit.encoders.learned.LearnedAutoencoder, init_args: {}}"
    assert main(["run", str(PRETRAIN), *tiny, learned, "training.max_steps=1", "training.checkpoint_every=1"]) == 0
    notice = read_notice(RunFolder(tmp_path / "runs" / "elastic_pretrain" / "latest"))
    assert "OpenMoji" in notice
    assert "CC BY-SA 4.0" in notice
