"""Damages a file in a run folder. A command must refuse the run with a one-line error or produce the same result."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from pocketdit.artifacts.run_folder import RunFolder
from pocketdit.tracking.journal import read_metrics
from tests.fuzz import tiny_runs
from tests.fuzz.command import Output, run_command
from tests.fuzz.file_damage import DAMAGES
from tests.fuzz.fuzzer import Fuzzer, Input
from tests.fuzz.shipped import ROOT
from tests.fuzz.tiny_runs import REFERENCE, arguments, differences, link_references, untracked

STAGES = ("elastic_pretrain", "quantize_finetune")
NAME, STEPS = "damaged", 8
# For each command, the files to damage, some of which the command does not need.
FILES = {
    "run": (
        "config.yaml", "checkpoints/last.ckpt", "weights.safetensors", "metrics.jsonl", "tracking.json", "parents.json",
        "finished", "samples/step-000005.png", "lock", "palettes.safetensors", "quantization.json",
    ),
    "sample": ("config.yaml", "weights.safetensors", "checkpoints/last.ckpt"),
    "evaluate": ("config.yaml", "weights.safetensors", "finished"),
    "export": ("config.yaml", "weights.safetensors", "palettes.safetensors", "quantization.json"),
    "sync": ("config.yaml", "metrics.jsonl", "tracking.json", "weights.safetensors", "samples/step-000005.png"),
}  # fmt: skip
# For each command, a pattern for the files that it writes to the case's folder.
RESULTS = {
    "sample": "sample.png",
    "evaluate": "evaluations/images/*/*/*.png",
    "export": "exports/*/*.mlpackage/**/weight.bin",
}


def prepare(shared: Path, stages: Iterable[str] = STAGES, commands: Iterable[str] = tuple(RESULTS)) -> None:
    """Train runs of 8 and 12 steps, and store the results of the commands for the 8-step runs."""
    tiny_runs.prepare(shared, stages)
    for stage in set(stages) & set(STAGES):
        output = run_command(*arguments(stage, shared, shared, NAME, STEPS))
        assert output.status == 0, output.lines
        for command in commands:
            folder = shared / stage / command
            folder.mkdir(parents=True)
            output = use(command, stage, shared, folder, shared / "runs" / stage / NAME)
            assert output.status == 0, output.lines
            assert results(command, folder), command


def use(command: str, stage: str, shared: Path, folder: Path, run: Path) -> Output:
    """Run a command that uses a run and writes to ``folder``."""
    tracking = f"sqlite:///{folder / 'mlflow.db'}"
    settings = ROOT / "experiments"
    match command:
        case "run":
            return run_command(*arguments(stage, shared, folder, NAME))
        case "sample":
            return run_command("sample", run, "--steps", 1, "--out", folder / "sample.png")
        case "evaluate":
            small = ("steps=1", "prompts.captions.init_args.count=2", "resamples=100", f"tracking.uri={tracking}")
            places = (f"run={run}", "width=0.5", f"out={folder / 'evaluations'}")
            return run_command("evaluate", settings / "eval" / "held_out.yaml", *places, *small)
        case "export":
            places = (f"run={run}", "width=0.5", f"out={folder / 'exports'}")
            return run_command("export", settings / "export" / "coreml.yaml", *places, "size=64x64", "verify=false")
        case _:
            return run_command("sync", run, "--to", tracking)


def results(command: str, folder: Path) -> list[bytes]:
    """Return the contents of the files that a command wrote."""
    return [path.read_bytes() for path in sorted(folder.glob(RESULTS[command]))]


def _run(given: Input) -> str:
    command, damage = given.kind.split(": ")
    stage = given.numbers.choice([stage for stage in STAGES if (given.shared / "runs" / stage / NAME).exists()])
    link_references(given.shared, given.folder)
    run = RunFolder(given.folder / "runs" / stage / NAME)
    shutil.copytree(given.shared / "runs" / stage / NAME, run.path)
    names = [name for name in FILES[command] if (run.path / name).exists()]
    path = run.path / given.numbers.choice(names)
    before = contents(run.path)
    DAMAGES[damage](given.numbers, path)
    damaged = path.relative_to(run.path)
    output = use(command, stage, given.shared, given.folder, run.path)
    if output.status:
        require_line(output, path)
        require_kept(before, contents(run.path), damaged)
        return f"refused: {damaged}: {output.lines[-1]}"
    if command == "run":
        require_resumed(RunFolder(given.shared / "runs" / stage / REFERENCE), run, damaged)
    elif command == "sync":
        if damaged.name != "metrics.jsonl":
            missing = untracked(run, given.folder / "mlflow.db")
            assert not missing, missing
    else:
        assert results(command, given.folder) == results(command, given.shared / stage / command), "the result differs"
    return f"recovered: {damaged}: {output.lines[-1]}"


def require_line(output: Output, path: Path) -> None:
    """Check that the error names the damaged file, or the run if its configuration is missing."""
    names = (path.name, "Permission denied", *(("no run named",) if path.name == "config.yaml" else ()))
    assert any(name in output.lines[-1] for name in names), output.lines


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file that can be read."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    readable = [path for path in files if os.access(path, os.R_OK, effective_ids=True)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in readable}


def require_kept(before: dict[str, bytes], after: dict[str, bytes], damaged: Path) -> None:
    """Check that a command that refused a run folder kept all files in it, except for the damaged file and logs."""
    logged = {"metrics.jsonl", "tracking.json", "lock", str(damaged)}
    lost = [name for name, content in before.items() if name not in logged and content not in after.values()]
    assert not lost, lost


def require_resumed(expected: RunFolder, run: RunFolder, damaged: Path) -> None:
    """Check that a resumed run has the same results as an undisturbed run, except for those that were damaged."""
    different = differences(expected, run)
    if damaged.name == "metrics.jsonl":
        curves, others = read_metrics(expected.metrics), read_metrics(run.metrics)
        different = [name for name in different if name not in curves]
        for name in (name for name in curves if not name.startswith("speed/")):
            later = [[point for point in those.get(name, []) if point[0] >= STEPS] for those in (curves, others)]
            assert later[0] == later[1], name
    assert set(different) <= {damaged.name}, different


RUN_FOLDERS = Fuzzer(
    "run_folders",
    tuple(f"{command}: {damage}" for damage in DAMAGES for command in FILES),
    _run,
    seconds=180,
    prepare=prepare,
)
