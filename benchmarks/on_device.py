"""The paper's small model by PyTorch, LiteRT and ONNX Runtime on this CPU; ladder A against D beside a phone.

One forward pass of 1024x1024 pixels (128x128x16 latents, 4096 tokens), batch 1, fp32, one thread, random weights, text
of the encoders' full length. The small model is the 0.5 width of experiments/paper/elastic_256.yaml. Every measurement
is a process of its own, in turns: all networks together would not fit into memory. Seconds are the process's CPU time,
which with one thread is the time of a pass on a core of its own: other work on a shared machine counts little. PyTorch
is warmed up on a sixteenth of the tokens; LiteRT files know one size, and their first pass was as fast as the next.

    python benchmarks/on_device.py [--json PATH] [--rounds N] [--models FOLDER]

Needs the extras litert and bench. Converting takes about 5 minutes of a core a network, and 9 GB of memory.
"""

import json
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.timing import announce, child, milliseconds, options, pairwise, report, table
from pocketdit.errors import RunError
from pocketdit.export.settings import Export
from pocketdit.export.subject import Subject, load_subject
from pocketdit.files import write_atomically
from pocketdit.litert.convert import convert
from pocketdit.litert.interpreter import LiteRTModel, relative_error
from pocketdit.litert.network import VELOCITY, NamedInputs, example_inputs
from pocketdit.running.cost_estimate import count_parameters
from pocketdit.training.compilation import compile_blocks

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
EAGER, COMPILED, LITERT, ONNX = RUNTIMES = ("torch eager", "torch.compile", "LiteRT", "ONNX Runtime")
FILES = {LITERT: "tflite", ONNX: "onnx"}
# File and width of every network; the embedded ones for the tests.
NETWORKS = {"small": ("paper/elastic_256.yaml", 0.5), "A": ("paper/ladder_a.yaml", 1), "D": ("paper/ladder_d.yaml", 1)}
QUICK = {"small": ("elastic_pretrain.yaml", 0.5), "A": ("teacher.yaml", 1), "D": ("elastic_pretrain.yaml", 1)}
PASSES = [("small", runtime) for runtime in RUNTIMES] + [(n, runtime) for n in "AD" for runtime in (EAGER, LITERT)]
CONVERTED = [key for key in PASSES if key[1] in FILES]
PHONE = 2000 / 360  # A over D in milliseconds on an iPhone 16 Pro Max (paper Fig. 3)
REQUIRED = 1.0  # LiteRT is there to be faster than PyTorch
MOST_ERROR = 1e-4  # of the largest value

Key = tuple[str, str]  # network, runtime
Pass = Callable[[], Tensor]


def subject_of(name: str, quick: bool) -> Subject:
    """The network, the same in every process, with the size of its latents; ``quick`` has the embedded sizes."""
    file, width = (QUICK if quick else NETWORKS)[name]
    return load_subject(
        Export(export="on_device", experiment=EXPERIMENTS / file, width=width, size="128x128" if quick else "1024x1024")
    )


def inputs_of(subject: Subject) -> dict[str, Tensor]:
    return example_inputs(subject.network.spec, subject.size, subject.text_lengths)


def prepare(name: str, runtime: str, models: Path, quick: bool) -> Pass:
    """A call of one pass, ready to be timed."""
    subject = subject_of(name, quick)
    inputs = inputs_of(subject)
    if runtime in FILES:
        return load_pass(models / f"{name}.{FILES[runtime]}", inputs)
    module = NamedInputs(subject.network)
    if runtime == COMPILED:
        compile_blocks(subject.network)  # for one size: it is warmed up at that size
        module(**inputs)
    else:
        height, width = subject.size
        module(**inputs_of(replace(subject, size=(height // 4, width // 4))))
    return lambda: module(**inputs)[VELOCITY]


def cpu_seconds(call: Pass) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def load_pass(file: Path, inputs: dict[str, Tensor]) -> Pass:
    """One pass of a converted file, on one thread."""
    if file.suffix == ".tflite":
        loaded = LiteRTModel(file, threads=1)
        return lambda: loaded(inputs)[VELOCITY]
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    arrays = {name: value.numpy() for name, value in inputs.items()}
    return lambda: torch.from_numpy(session.run([VELOCITY], arrays)[0])


def convert_all(models: Path, quick: bool) -> dict[Key, Any]:
    """Convert what ``models`` does not hold yet, each in a process of its own -> what the conversions took."""
    models.mkdir(parents=True, exist_ok=True)
    facts = {}
    for name, runtime in CONVERTED:
        file = models / f"{name}.{FILES[runtime]}"
        note = file.with_suffix(f"{file.suffix}.json")
        if not file.is_file() or not note.is_file():
            print(f"converting {name} for {runtime}", flush=True)
            write_atomically(note, json.dumps(ask("--convert", name, "--by", runtime, models=models, quick=quick)))
        facts[name, runtime] = json.loads(note.read_text())
    return facts


def ask(*words: str, models: Path, quick: bool) -> Any:
    """This file in a process of its own."""
    return child(__file__, *words, "--models", str(models), *(["--quick"] if quick else []))


def convert_one(name: str, runtime: str, models: Path, quick: bool) -> dict[str, Any]:
    """In the child: the file, and parameters, seconds, bytes, operations, error (of the largest value), peak memory."""
    subject = subject_of(name, quick)
    module, inputs = NamedInputs(subject.network), inputs_of(subject)
    file = models / f"{name}.{FILES[runtime]}"
    facts = convert_litert(module, inputs, file) if runtime == LITERT else convert_onnx(module, inputs, file)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"parameters": count_parameters(subject.network), **facts, "peak_gb": peak}


def convert_litert(module: NamedInputs, inputs: dict[str, Tensor], file: Path) -> dict[str, Any]:
    done = convert(module, inputs, file, max_error=MOST_ERROR)
    return {"seconds": done.seconds, "bytes": done.bytes, "operations": done.operations, "error": done.error}


def convert_onnx(module: NamedInputs, inputs: dict[str, Tensor], file: Path) -> dict[str, Any]:
    expected = module.eval()(**inputs)[VELOCITY]
    began = time.perf_counter()
    program = torch.onnx.export(
        module, kwargs=inputs, input_names=list(inputs), output_names=[VELOCITY], dynamo=True, verbose=False,
        optimize=False,  # takes more than ten minutes at this size; the runtime optimizes when it loads the file
    )  # fmt: skip
    seconds = time.perf_counter() - began
    assert program is not None
    program.save(file, external_data=True)  # the format itself holds 2 GB at most
    error = relative_error(load_pass(file, inputs)(), expected)
    if not error <= MOST_ERROR:
        raise RunError(f"{file}: ONNX Runtime's result differs from PyTorch's by {error:.1e} of the largest value")
    size = sum(path.stat().st_size for path in file.parent.glob(f"{file.name}*"))
    return {"seconds": seconds, "bytes": size, "operations": len(program.model.graph), "error": error}


def measure(rounds: int, models: Path, quick: bool) -> dict[Key, list[float]]:
    """Seconds of every pass, in turns."""
    seconds: dict[Key, list[float]] = {key: [] for key in PASSES}
    with tqdm(total=rounds * len(PASSES), unit="pass", disable=quick) as bar:
        for _ in range(rounds):
            for name, runtime in PASSES:
                words = ("--time", name, "--by", runtime)
                seconds[name, runtime].append(float(ask(*words, models=models, quick=quick)))
                bar.set_postfix_str(f"{name}, {runtime}: {seconds[name, runtime][-1]:.3g} s")
                bar.update()
    return seconds


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="passes of each kind (default 3)")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="keep .tflite files there, or take them")
    parser.add_argument("--convert", choices=NETWORKS, help="convert one network, print what it took, and exit")
    parser.add_argument("--time", choices=NETWORKS, help="print the seconds of one pass of this network, and exit")
    parser.add_argument("--by", choices=RUNTIMES, help="with --convert, --time: what runs it")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    quick = chosen.quick
    if chosen.convert:
        print(json.dumps(convert_one(chosen.convert, chosen.by, chosen.models, quick)))
        return
    if chosen.time:
        print(json.dumps(cpu_seconds(prepare(chosen.time, chosen.by, chosen.models, quick))))
        return
    announce()
    with ExitStack() as stack:
        models = chosen.models or Path(stack.enter_context(TemporaryDirectory(prefix="on_device")))
        converted = convert_all(models, quick)
        seconds = measure(1 if quick else chosen.rounds, models, quick)
    conclude(seconds, converted, chosen.json)


def conclude(seconds: dict[Key, list[float]], converted: dict[Key, Any], path: Path | None) -> None:
    """Tables, the last line, and the JSON."""
    print("\nbatch 1, fp32, one thread; CPU seconds\n")
    facts = [
        [
            name,
            runtime,
            f"{file['parameters'] / 1e6:.1f} M",
            f"{file['seconds']:.0f} s",
            f"{file['bytes'] / 1e6:,.0f} MB",
            file["operations"],
            f"{file['error']:.1e}",
            f"{file['peak_gb']:.1f} GB",
        ]
        for (name, runtime), file in converted.items()
    ]
    print(
        table(["network", "for", "parameters", "converted in", "size", "operations", "error", "peak memory"], facts),
        end="\n\n",
    )
    rows = [
        {"network": name, "runtime": runtime, "seconds": own, "eager_over_this": pairwise(seconds[name, EAGER], own)}
        for (name, runtime), own in seconds.items()
    ]
    cells = [
        [name, runtime, milliseconds(own), pairwise(seconds[name, EAGER], own)]
        for (name, runtime), own in seconds.items()
    ]
    print(table(["network", "by", "median", "torch eager / this"], cells), end="\n\n")
    ladder = {runtime: pairwise(seconds["A", runtime], seconds["D", runtime]) for runtime in (EAGER, LITERT)}
    for runtime, ratio in ladder.items():
        print(f"A / D by {runtime} on this CPU: {ratio}; on the paper's phone {PHONE:.2f}")
    ratio = pairwise(seconds["small", EAGER], seconds["small", LITERT])
    met = ratio.median >= REQUIRED
    others = {by: pairwise(seconds["small", by], seconds["small", LITERT]) for by in (COMPILED, ONNX)}
    print(
        f"ratio: torch eager / LiteRT = {ratio}, required {REQUIRED}; "
        + "; ".join(f"{by} / LiteRT = {other}" for by, other in others.items())
        + f": {'met' if met else 'NOT met'}"
    )
    report(
        {
            "benchmark": "on_device",
            "rows": rows,
            "converted": [{"network": name, "runtime": by, **file} for (name, by), file in converted.items()],
            "ratio": ratio,
            "others_over_litert": others,
            "ladder": ladder,
            "phone": PHONE,
            "required": REQUIRED,
            "met": met,
        },
        path,
    )


if __name__ == "__main__":
    main()
