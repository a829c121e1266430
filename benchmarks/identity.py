"""Show that two revisions of the project compute the same results.

    python benchmarks/identity.py --before fd8499a --after .
    python benchmarks/identity.py record fd8499a before.json
    python benchmarks/identity.py compare before.json after.json

Each revision is exported to a temporary folder and driven through its command line on small fixed settings: it builds
data sets, trains every experiment for 20 steps, samples images, evaluates, exports, predicts latency and runs a sweep.
What it computes is recorded as hashes and exact floats, and the two records are compared. A revision is anything that
git resolves, or a folder, whose working tree is then used without ignored files. The exit status is 1 if
anything differs or a command fails.

Both records must come from the same machine and library versions; the comparison warns about differences. A recording
takes about 5 minutes on one core.
"""

import argparse
import hashlib
import importlib.metadata
import io
import json
import logging
import math
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

# Renamed words, (before, after), in code, YAML and JSON keys, metrics and printed text. They count as equal. Commands
# use the new word if the sources contain it, so they must not use a word whose successor existed before, such as
# "picture". Names of values that are not listed here are paired by their values.
RENAMED = (
    ("elastic_dit", "pocketdit"),
    ("elastic-dit", "pocketdit"),
    ("multistep", "dpmpp_2m"),
    ("pictures", "images"),
    ("picture", "image"),
)
# Names of values that may differ: speeds, hashes of whole files, versions, and names of a graph's operations.
IGNORED = re.compile(r"^(speed/|versions\.|revision)|(^|\.)sha256$|^operations\.\d+\.name$")
# Rows in which a new name is not a difference: default arguments that are now written out, and the tag of a union.
GROWING = re.compile(r"^settings|manifest$")
# Printed lines that are not compared: times measured on this machine, hashes of files, and names.
UNCOMPARED_LINES = re.compile(r"samples per second|fingerprint|^ *training  |^width .* is not in it|^next ")

ROOT = Path(__file__).resolve().parent.parent
SCENES = ("--train", "240", "--validation", "16")
TRAIN = ("data.init_args.batch_size=4", "data.init_args.workers=0", "data.init_args.validation_samples=8",
         "training.max_steps=20", "training.warmup_steps=2", "training.log_every=1", "training.checkpoint_every=10",
         "training.sample_every=10")  # fmt: skip
VALIDATE = ("training.validate_every=10",)
SAMPLING = ("sampling.steps=4", "sampling.prompts=[a red circle, two blue stars]")
STUDENT = ("backbone.width=128", "backbone.text_width=64", "backbone.head_dim=8")
TEACHER = ("backbone.width=64", "backbone.text_width=64", "backbone.head_dim=16", "backbone.text_kv_heads=2",
           "backbone.levels.0.depth=2", "backbone.levels.0.attention.kv_heads=2")  # fmt: skip
LORA = ("stage.init_args.rank=4", "stage.init_args.alpha=8")
CALIBRATION = ("stage.init_args.calibration_batches=1",)
FLOAT32 = ("training.precision=32-true",)  # the other experiments keep the machine's own choice
RUN = "identity"  # name of every run
# Ordered so that parents come first.
EXPERIMENTS = {
    "elastic_pretrain": (*VALIDATE, *SAMPLING, *STUDENT, "training.decay=constant"),  # so that it can be extended
    "teacher": (*VALIDATE, *SAMPLING, *TEACHER, *FLOAT32),
    "teacher_few_step": (*SAMPLING, *TEACHER, *LORA, f"parents.start=teacher/{RUN}"),
    "knowledge_distill": (*VALIDATE, *SAMPLING, *STUDENT, f"parents.start=elastic_pretrain/{RUN}"),
    "step_distill": (*SAMPLING, *STUDENT, *LORA, *FLOAT32, f"parents.start=knowledge_distill/{RUN}"),
    "quantize_finetune": (*SAMPLING, *STUDENT, *CALIBRATION, f"parents.start=step_distill/{RUN}"),
    "tiny_decoder": (*VALIDATE, *FLOAT32),
}
PLANS = (*EXPERIMENTS, *(f"paper/{name}" for name in ("elastic_256", "ladder_a", "ladder_b", "ladder_c", "ladder_d")))
PROMPTS = ("a red circle left of a blue square", "three yellow stars")
SAMPLES = {
    "euler": ("elastic_pretrain", "--sampler", "euler"),
    "heun": ("elastic_pretrain", "--sampler", "heun", "--size", "96x160"),
    "multistep": ("elastic_pretrain", "--sampler", "multistep", "--seed", "3"),
    "few steps, tiny decoder": ("step_distill", "--decoder", "tiny_decoder"),
}
PROMPT_SETS = {"geneval": 24, "dpg": 8, "color": 8, "shape": 8, "spatial": 8, "numeracy": 8, "complex": 8}
EVALUATION = ("width=0.5", "resamples=10000", *(f"prompts.{k}.init_args.count={n}" for k, n in PROMPT_SETS.items()))
SWEEP = ("budget.trials=5", "budget.steps=[4,6]", "budget.promote=[1]", "budget.finalists=1", "sampler.startup=2",
         "set={data.init_args.workers: 0, data.init_args.batch_size: 4, data.init_args.validation_samples: 8, "
         "backbone.width: 64, backbone.widths: [1.0], backbone.text_width: 64, training.decay: constant, "
         "training.warmup_steps: 1, training.validate_every: 2, training.checkpoint_every: 2, "
         "training.sample_every: 0}")  # fmt: skip

NOT_COMPARED = "not compared"
Section = dict[str, Any]
"""What one row of the table compares: values by name. Floats are hexadecimal texts, a series is a list of such."""
Rows = Iterator[tuple[str, Section]]


class Document(dict[str, Any]):
    """A JSON object whose keys can also be looked up by their old names."""

    def __missing__(self, key: str) -> Any:
        if renamed(key) == key:
            raise KeyError(key)
        return self[renamed(key)]


def parse(text: str | bytes) -> Any:
    return json.loads(text, object_hook=Document)


class CommandError(Exception):
    """A command of the recorded revision failed."""


class Program:
    """A revision in its own folder, and its command line.

    Args:
        tree: Folder with the exported files of the revision. Everything that the program writes stays in it.
    """

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.module = "pocketdit" if (tree / "platform" / "pocketdit").is_dir() else "elastic_dit"
        sources = [path for kind in ("*.py", "*.yaml") for path in tree.rglob(kind)]
        sources = [path for path in sources if path.relative_to(tree).parts[0] not in ("benchmarks", "tests")]
        words = set(re.findall(r"[\w-]+", " ".join(path.read_text() for path in sources)))
        self._renamed = [(before, after) for before, after in RENAMED if after in words]
        # Without these files, an editable installation of the same packages would be imported instead.
        for package in ("datamodules", "evaluation", "sweeps"):
            (tree / package / "__init__.py").touch()
        project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
        name, version = project["name"], project["version"]
        about = tree / "platform" / f"{name.replace('-', '_')}-{version}.dist-info"  # the program asks for its version
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        path = [str(tree / "platform"), str(tree), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        packages = (self.module, "datamodules", "evaluation", "sweeps")
        code = f"import {', '.join(packages)}; print(*(m.__path__[0] for m in ({', '.join(packages)})), sep='\\n')"
        found = self._execute("-c", code).split()
        if outside := [path for path in found if not Path(path).is_relative_to(tree)]:
            raise CommandError(f"{outside[0]} is imported instead of the package in {tree}")

    def __call__(self, *words: str) -> str:
        """Run a command and return what it prints. Raises ``CommandError`` if it fails."""
        return self._execute("-m", self.module, *map(self.spelled, words))

    def spelled(self, text: str) -> str:
        """Return the text with the words that this revision uses."""
        return renamed(text, self._renamed)

    def _execute(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=self.tree, env=self.environment, capture_output=True, text=True, timeout=900
        )
        if done.returncode:
            reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise CommandError(f"{' '.join(words)[:200]}: exit status {done.returncode}: {reason}")
        return done.stdout


def renamed(text: str, pairs: Iterable[tuple[str, str]] = RENAMED) -> str:
    for before, after in pairs:
        text = re.sub(rf"(?<![A-Za-z0-9]){before}(?![A-Za-z0-9])", after, text)
    return text


def exact(value: Any) -> Any:
    """Return the recorded form of a leaf of a JSON or YAML document."""
    return value.hex() if isinstance(value, float) else str(value)


def leaves(document: Any, name: str = "") -> Section:
    """Return all leaves of a document by their dotted names."""
    if not isinstance(document, dict | list):
        return {name: exact(document)}
    items = document.items() if isinstance(document, dict) else enumerate(document)
    found: Section = {}
    for key, value in items:
        found |= leaves(value, f"{name}.{key}" if name else str(key))
    return found


def numbers(text: str) -> Section:
    """Return the numbers in a printed text, in order."""
    lines = [line for line in text.splitlines() if line.strip() and not UNCOMPARED_LINES.search(line)]
    return {
        "printed": [
            number for line in lines for number in re.findall(r"(?<![\w.])-?\d+(?:[.,]\d+)*(?:e[-+]\d+)?", line)
        ]
    }


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def pixels(source: Path | bytes) -> str:
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return digest(repr(image.size).encode(), image.convert("RGB").tobytes())


def tensors(content: bytes) -> Section:
    """Return hashes of the tensors in a safetensors file, including their types and shapes."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    body = memoryview(content)[8 + size :]
    return {
        name: digest(repr((entry["dtype"], entry["shape"])).encode(), body[slice(*entry["data_offsets"])].tobytes())
        for name, entry in header.items()
    }


def samples_of(data: Path) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """Yield the name, metadata and payload of every sample of a data set."""
    for shard in sorted(data.glob("*/*.tar")):
        members: dict[str, dict[str, bytes]] = {}
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                members.setdefault(key, {})[extension] = file.read()
        for key, found in members.items():
            metadata = parse(found.pop("json"))
            yield f"{shard.parent.name}/{key}", metadata, found.popitem()[1]


def data_set(data: Path) -> Section:
    """Hash the captions, size, other metadata (without its keys) and decoded content of every sample."""
    content = {}
    for name, metadata, payload in samples_of(data):
        rest = leaves({key: value for key, value in metadata.items() if key not in ("captions", "width", "height")})
        is_latent = payload[8:9] == b"{"  # where the header of a safetensors file begins
        decoded = list(tensors(payload).values()) if is_latent else pixels(payload)
        about = [metadata["captions"], metadata["width"], metadata["height"], sorted(rest.values())]
        content[name] = digest(json.dumps([about, decoded]).encode())
    return content


def record_data(program: Program) -> Rows:
    program("data", "build", "scenes", "data/scenes", *SCENES)
    yield "data build scenes", data_set(program.tree / "data/scenes")
    captioned = program.tree / "captioned"
    captioned.mkdir()
    for name, metadata, payload in samples_of(program.tree / "data/scenes"):
        (captioned / f"{name.replace('/', '-')}.png").write_bytes(payload)
        (captioned / f"{name.replace('/', '-')}.txt").write_text(metadata["captions"][0])
    latents = ("--latents", "experiments/elastic_pretrain.yaml")
    program("data", "build", "scenes", "data/latents", "--train", "8", "--validation", "2", *latents)
    yield "data build --latents", data_set(program.tree / "data/latents")
    program("data", "build", "captioned", "data/folder", "--validation", "0.2", "--max-side", "100")
    yield "data build FOLDER", data_set(program.tree / "data/folder")
    yield "data stats --latents", numbers(program("data", "stats", "data/scenes", *latents))


def record_settings(program: Program) -> Rows:
    """Record every YAML file as the program resolves it, including defaults."""
    verbs = {"experiments": "run", "experiments/paper": "run", "experiments/eval": "evaluate",
             "experiments/export": "export", "sweeps": "sweep", "sweeps/paper": "sweep"}  # fmt: skip
    for folder, verb in verbs.items():
        found = {}
        for file in sorted((program.tree / folder).glob("*.yaml")):
            printed = program(verb, str(file.relative_to(program.tree)), "--print-config")
            found[file.stem] = yaml.safe_load(printed)
        yield f"settings in {folder}/", leaves(found)


def record_plans(program: Program) -> Rows:
    for name in PLANS:
        yield f"run {name} --plan", numbers(program("run", f"experiments/{name}.yaml", "--plan"))


def record_training(program: Program) -> Rows:
    for name, settings in EXPERIMENTS.items():
        words = ("run", f"experiments/{name}.yaml", *TRAIN, *settings)
        if name == "elastic_pretrain":
            program(*words, "training.max_steps=12", "--name", RUN)
            program(*words, "--resume", f"{name}/{RUN}")
        else:
            program(*words, "--name", RUN)
        yield from run_folder(name, program.tree / program.spelled(f"runs/{name}/{RUN}"))


def run_folder(name: str, folder: Path) -> Rows:
    metrics: dict[str, list[str]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        event = parse(line)
        if event["kind"] == "metric":
            metrics.setdefault(event["key"], []).append(f"{float(event['value']).hex()} at step {event['step']}")
    validation = {key: series for key, series in metrics.items() if key.startswith("validation/")}
    yield f"run {name}: metrics", {key: series for key, series in metrics.items() if key not in validation}
    if validation:
        yield f"run {name}: validation", validation
    for file in sorted(folder.glob("*.safetensors")):
        yield f"run {name}: {file.stem}", tensors(file.read_bytes())
    for file in sorted(folder.glob("quantization.json")):
        yield f"run {name}: {file.stem}", leaves(parse(file.read_text()))
    yield f"run {name}: sample grids", {file.stem: pixels(file) for file in sorted(folder.glob("samples/*.png"))}


def record_samples(program: Program) -> Rows:
    common = (*PROMPTS, "--width", "0.5", "1", "--steps", "5", "--out", "sample.png")
    for name, (run, *options) in SAMPLES.items():
        program("sample", f"{run}/{RUN}", *common, *options)
        yield f"sample: {name}", {"image": pixels(program.tree / "sample.png")}


def record_evaluations(program: Program) -> Rows:
    """Evaluate a run, whose images show little after 20 steps, and rendered scenes that match some of the prompts."""
    words = ("evaluate", "experiments/eval/embedded.yaml", *EVALUATION, f"run=elastic_pretrain/{RUN}")
    program(*words, "steps=4", "out=evaluated/run")
    folder = program.tree / "evaluated/run/images"
    drawn = sorted(folder.rglob("*.png"), key=lambda path: path.parts[-2:])
    yield "evaluate run: drawn images", {"/".join(path.parts[-2:]): pixels(path) for path in drawn}
    yield from scores("run", program.tree / "evaluated/run")
    captions = [(set(path.read_text().split()), path) for path in sorted((program.tree / "captioned").glob("*.txt"))]
    (program.tree / "drawn").mkdir()
    for file in sorted(folder.glob("*/*.json")):
        for prompt in parse(file.read_text())["prompts"]["prompts"]:
            wanted = set(prompt["text"].split())
            _, nearest = max(captions, key=lambda entry: len(wanted & entry[0]) / len(wanted | entry[0]))
            shutil.copy(nearest.with_suffix(".png"), program.tree / "drawn" / f"{prompt['id']}.png")
    is_package = (program.tree / "evaluation" / "subjects").is_dir()
    image_folder = "evaluation.subjects.image_folder.ImageFolder" if is_package else "evaluation.subjects.Folder"
    subject = f"subject={{class_path: {image_folder}, init_args: {{path: drawn}}}}"
    program(*words, subject, "out=evaluated/scenes")
    yield from scores("scenes", program.tree / "evaluated/scenes")


def scores(name: str, folder: Path) -> Rows:
    values, intervals = {}, {}
    (file,) = folder.glob("embedded/*/results.json")
    for index, result in enumerate(parse(file.read_text())["results"]):
        for score, found in result["scores"].items():
            key = f"{index} {result['metric']} {score}"
            parts = [float(found["by_prompt"][prompt]) for prompt in sorted(found["by_prompt"])]
            values[key] = [exact(float(found["value"])), exact(found["samples"]), *map(exact, parts)]
            if found["interval_95"]:
                low, high = found["interval_95"]
                # Five standard errors of the quantiles of 10,000 resamples, and of few different values, whose means
                # are few as well, a step from one mean to the next.
                step = 2 * (max(parts) - min(parts)) / len(parts) if len(set(parts)) < 5 else 0.0
                tolerance = 0.05 * (high - low) + step
                intervals[key] = {"low": low, "high": high, "tolerance": tolerance}
    yield f"evaluate {name}: scores", values
    yield f"evaluate {name}: intervals (within Monte Carlo error)", intervals


def record_exports(program: Program) -> Rows:
    coreml = ("export", "experiments/export/coreml.yaml", "width=0.5")
    program(*coreml, f"run=elastic_pretrain/{RUN}", "out=exports")
    program(*coreml, f"run=quantize_finetune/{RUN}", f"decoder=tiny_decoder/{RUN}", "out=quantized")
    for name in ("exports", "quantized"):
        (bundle,) = (program.tree / name).iterdir()
        for package in sorted(bundle.glob("*.mlpackage")):
            yield f"export coreml {name}: {package.stem}", coreml_graph(package)
        for file in (bundle / "manifest.json", bundle / "census.json"):
            yield f"export coreml {name}: {file.stem}", leaves(parse(file.read_text()))
    (bundle,) = (program.tree / "exports").iterdir()
    program("latency", str(bundle.relative_to(program.tree)))
    records = [parse(line) for line in (bundle / "latency.jsonl").read_text().splitlines()]
    predicted = ("milliseconds", "low", "high")
    yield "latency", {f"{entry['what']} {key}": exact(entry[key]) for entry in records for key in predicted}
    budget = (f"run=elastic_pretrain/{RUN}", "budget=400ms", "evaluations=evaluated/run")
    yield "recommend", numbers(program("recommend", *budget))
    yield "recommend at 1024x1024", numbers(program("recommend", *budget, "size=1024x1024"))
    if find_spec("litert_torch") is None:
        yield "export litert", {NOT_COMPARED: "extra litert not installed"}
        return
    program("export", "experiments/export/litert.yaml", f"run=elastic_pretrain/{RUN}", "out=litert")
    (file,) = (program.tree / "litert").rglob("*.tflite")
    yield "export litert", litert_graph(file)


def coreml_graph(package: Path) -> Section:
    """Return the operations in order. Inputs are identified by the position of the operation that computes them."""
    logging.disable(logging.WARNING)  # coremltools says at length what it cannot do on Linux
    from coremltools.models.utils import load_spec

    function = load_spec(str(package)).mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    places = {given.name: f"input {index}" for index, given in enumerate(function.inputs)}
    operations: list[str] = []
    for operation in block.operations:
        parts = [operation.type.encode()]
        for name, given in sorted(operation.inputs.items()):
            for argument in given.arguments:
                if argument.WhichOneof("binding") == "name":
                    parts += [name.encode(), places[argument.name].encode()]
                else:
                    parts += [name.encode(), argument.value.SerializeToString(deterministic=True)]
        for name, value in sorted(operation.attributes.items()):
            parts += [] if name == "name" else [name.encode(), value.SerializeToString(deterministic=True)]
        for index, output in enumerate(operation.outputs):
            parts.append(output.type.SerializeToString(deterministic=True))
            places[output.name] = f"output {index} of operation {len(operations)}"
        operations.append(f"{operation.type} {digest(*parts)}")
    (weights,) = (package / "Data").rglob("weight.bin")
    names = {"inputs": list(places)[: len(function.inputs)], "outputs": list(block.outputs)}
    results = [places[name] for name in block.outputs]
    return {"operations": operations, "weights": digest(weights.read_bytes()), "results": results, **names}


def litert_graph(file: Path) -> Section:
    """Return the operations in order and all constant tensors, without their names."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    details = interpreter._get_ops_details()
    computed = {index for entry in details for index in entry["outputs"]}
    given = {entry["index"] for entry in interpreter.get_input_details()}
    constants = []
    for entry in interpreter.get_tensor_details():
        if entry["index"] not in computed | given and entry["shape"].size:
            value = interpreter.get_tensor(entry["index"])
            constants.append(f"{entry['index']} {digest(repr((value.dtype, value.shape)).encode(), value.tobytes())}")
    return {
        "operations": [
            f"{entry['op_name']} {[*map(int, entry['inputs'])]} {[*map(int, entry['outputs'])]}" for entry in details
        ],
        "constants": constants,
    }


def record_sweep(program: Program) -> Rows:
    program("sweep", "sweeps/bna.yaml", *SWEEP)
    query = "SELECT study_name, number, {} FROM trials JOIN studies USING (study_id) JOIN {} USING (trial_id)"
    with sqlite3.connect(program.tree / "runs/sweeps.db") as database:
        values = database.execute(query.format("objective, value", "trial_values"))
        yield "sweep: objectives", {f"{s} trial {n} objective {o}": exact(v) for s, n, o, v in values}
        choices = database.execute(query.format("param_name, param_value", "trial_params"))
        yield "sweep: choices", {f"{s} trial {n} {p}": exact(v) for s, n, p, v in choices}


STEPS: tuple[Callable[[Program], Rows], ...] = (
    record_data, record_settings, record_plans, record_training, record_samples, record_evaluations, record_exports,
    record_sweep,
)  # fmt: skip


def export(revision: str, tree: Path) -> None:
    """Write a revision, or the working tree in a folder, to ``tree``."""
    tree.mkdir(parents=True)
    if not Path(revision).is_dir():
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", revision], capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(tree, filter="data")
        return
    listing = ["git", "-C", revision, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, files):
        if (Path(revision) / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(revision) / name, tree / name)


def record(revision: str, work: Path | None) -> dict[str, Any]:
    """Record what a revision computes. If a command fails, its message is recorded and its step ends."""
    libraries = ("torch", "numpy", "lightning", "coremltools", "optuna")
    environment = {name: importlib.metadata.version(name) for name in libraries if find_spec(name)}
    environment |= {"python": platform.python_version(), "machine": f"{platform.node()} {platform.machine()}"}
    rows: dict[str, Section] = {}
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="identity-", dir=work)).resolve()
    try:
        export(revision, folder / "tree")
        program = Program(folder / "tree")
        for step in STEPS:
            try:
                rows.update(step(program))
            except (CommandError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
                rows[step.__name__] = {"failed": f"{type(error).__name__}: {error}"}
                print(f"{revision}: {step.__name__} failed: {error}", file=sys.stderr)
            print(f"{revision}: {step.__name__} after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    finally:
        if work is None:
            shutil.rmtree(folder)
    return {"revision": revision, "environment": environment, "rows": rows}


def shown(value: Any) -> str:
    """Format a recorded value for a reader."""
    return re.sub(r"-?0x[01]\.[0-9a-f]+p[+-]\d+", lambda found: f"{float.fromhex(found[0])!r}", str(value))


def printed_figures_remain(before: list[str], after: list[str]) -> bool:
    """Return whether every number is still printed, in any layout and number of digits, possibly among new ones."""
    figures = [float(value.replace(",", "")) for value in after]

    def remains(value: str) -> bool:
        precision = 0.006 if "." in value else 0.5
        number = float(value.replace(",", ""))
        return any(math.isclose(number, figure, rel_tol=0.01, abs_tol=precision) for figure in figures)

    return all(remains(value) for value in before)


def same(name: str, before: Any, after: Any) -> bool:
    if name == "printed":
        return printed_figures_remain(before, after)
    if name.endswith(("class_path", ".class")):  # modules have moved; classes keep their names or stand in RENAMED
        return bool(before.rpartition(".")[2] == after.rpartition(".")[2])
    if isinstance(before, dict) and isinstance(after, dict):
        tolerance = max(before["tolerance"], after["tolerance"])
        return all(math.isclose(before[end], after[end], rel_tol=0, abs_tol=tolerance) for end in ("low", "high"))
    return bool(before == after)


def difference(name: str, before: Any, after: Any) -> str:
    """Describe the first difference between two unequal values of the same name."""
    if not (isinstance(before, list) and isinstance(after, list)):
        return f"{name}: {shown(before)} -> {shown(after)}"
    if len(before) != len(after):
        return f"{name}: {len(before)} values -> {len(after)}"
    unequal = [index for index, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    first = unequal[0]
    return f"{name}[{first}]: {shown(before[first])} -> {shown(after[first])} ({len(unequal)} of {len(before)} differ)"


def compare_section(before: Section, after: Section, may_grow: bool) -> tuple[int, list[str], list[str]]:
    """Return the number of values, the differences, and the names that were paired by value or are new."""
    for section in (before, after):
        if reason := section.get(NOT_COMPARED):
            return 0, [], [f"{NOT_COMPARED}: {reason}"]
    old, new = (json.loads(renamed(json.dumps(section))) for section in (before, after))
    old, new = ({k: v for k, v in section.items() if not IGNORED.search(k)} for section in (old, new))
    count = sum(len(value) if isinstance(value, list) else 1 for value in old.values())
    differences = [f"failed: {section['failed']}" for section in (old, new) if "failed" in section]
    unequal = [name for name in old if name in new and not same(name, old[name], new[name])]
    differences += [difference(name, old[name], new[name]) for name in unequal]
    added, paired = [name for name in new if name not in old], []
    for name in (name for name in old if name not in new):
        if other := next((other for other in added if same(name, old[name], new[other])), None):
            added.remove(other)
            paired.append(f"{name} is now {other}")
        else:
            differences.append(f"{name} is gone")
    if may_grow:
        paired += [f"{name} is new" for name in added]
    else:
        differences += [f"{name} is new" for name in added]
    return count, differences, paired


def compare(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Print the table and return whether the records agree."""
    for name, value in before["environment"].items():
        if after["environment"].get(name) != value:
            print(f"warning: {name} is {value} before and {after['environment'].get(name)} after")
    rows = {renamed(name): section for name, section in before["rows"].items()}
    others = {renamed(name): section for name, section in after["rows"].items()}
    width = max(map(len, rows | others))
    print(f"{'what':{width}}  values  {before['revision']} against {after['revision']}")
    agree = True
    for name in rows | others:
        if name not in rows or name not in others:
            count, differences, notes = 0, [f"only {'before' if name in rows else 'after'}"], list[str]()
        else:
            count, differences, notes = compare_section(rows[name], others[name], bool(GROWING.search(name)))
        agree = agree and not differences
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        if differences:
            result = f"DIFFERENT: {differences[0]}{more}"
        elif not notes or notes[0].startswith(NOT_COMPARED):
            result = "".join(notes) or "identical"
        else:
            result = f"identical, {len(notes)} renamed or new: {notes[0]}"
        print(f"{name:{width}}  {count or '-':>6}  {result}")
    print("all that was compared is identical" if agree else "the revisions differ")
    return agree


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="record REV OUT.json | compare A.json B.json")
    parser.add_argument("--before", metavar="REV", help="a git revision, or a folder for its working tree")
    parser.add_argument("--after", metavar="REV", help="likewise")
    parser.add_argument("--work", type=Path, metavar="DIR", help="export revisions below this folder and keep them")
    args = parser.parse_args()
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    match args.words:
        case ["record", revision, out]:
            found = record(revision, args.work)
            Path(out).write_text(json.dumps(found, indent=1) + "\n")
            return int(any("failed" in section for section in found["rows"].values()))
        case ["compare", before, after]:
            records = [json.loads(Path(file).read_text()) for file in (before, after)]
        case [] if args.before and args.after:
            records = [record(revision, args.work) for revision in (args.before, args.after)]
        case _:
            parser.error("give --before REV --after REV, record REV OUT.json, or compare A.json B.json")
    return 0 if compare(*records) else 1


if __name__ == "__main__":
    sys.exit(main())
