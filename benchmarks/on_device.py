"""Time the paper's small model with PyTorch, LiteRT and ONNX Runtime on this CPU, and compare ladder A with D.

Each measurement is one forward pass at 1024x1024 pixels (128x128x16 latents, 4096 tokens) with batch size 1, fp32, one
thread, random weights, and text of the encoders' maximum length. The small model is the 0.5x width of
experiments/paper/elastic_256.yaml. Measurements alternate, and each runs in its own process, because the networks do
not fit into memory together. Times are CPU times of the process. With one thread, they equal the wall-clock time on an
idle core, so other work on a shared machine has little effect. PyTorch is warmed up on a sixteenth of the tokens.
LiteRT files support only one size and are not warmed up, because their first pass was as fast as their second.

    python benchmarks/on_device.py [--json PATH] [--rounds N] [--models FOLDER]

Requires the extras litert and bench. Converting a network takes about 5 minutes on one core and 9 GB of memory.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.timing import (
    argument_parser,
    format_median,
    paired_ratio,
    print_machine,
    run_child,
    table,
    verdict,
    write_result,
)
from pocketdit.backbones.build import Backbone
from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import RunError
from pocketdit.export.common.comparison import Tolerance, compare
from pocketdit.export.common.subject import Subject, load_subject
from pocketdit.export.litert.convert import convert
from pocketdit.export.litert.graphs import VELOCITY, example_inputs
from pocketdit.export.litert.interpreter import LiteRTModel
from pocketdit.export.litert.settings import LiteRTExport
from pocketdit.files import write_atomically
from pocketdit.memory import peak_bytes
from pocketdit.training.compilation import compile_blocks
from pocketdit.training.cost import count_parameters

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
EAGER, COMPILED, LITERT, ONNX = RUNTIMES = ("torch eager", "torch.compile", "LiteRT", "ONNX Runtime")
FILES = {LITERT: "tflite", ONNX: "onnx"}
# The experiment file and width of every network. QUICK contains small embedded networks for the tests.
NETWORKS = {"small": ("paper/elastic_256.yaml", 0.5), "A": ("paper/ladder_a.yaml", 1), "D": ("paper/ladder_d.yaml", 1)}
QUICK = {"small": ("elastic_pretrain.yaml", 0.5), "A": ("teacher.yaml", 1), "D": ("elastic_pretrain.yaml", 1)}
PASSES = [("small", runtime) for runtime in RUNTIMES] + [(n, runtime) for n in "AD" for runtime in (EAGER, LITERT)]
CONVERTED = [key for key in PASSES if key[1] in FILES]
PHONE = 2000 / 360  # latency of A divided by that of D on an iPhone 16 Pro Max (paper Fig. 3)
REQUIRED = 1.0  # LiteRT must be at least as fast as PyTorch
TOLERANCE = Tolerance(max_error=1e-4)

Key = tuple[str, str]  # names of the network and the runtime
Pass = Callable[[], Tensor]


class NamedInputs(nn.Module):
    """A network in the training form, including its text projection, with named inputs."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network

    def forward(self, latents: Tensor, time: Tensor, **text: Tensor) -> dict[str, Tensor]:
        tokens = [
            TextTokens(text[f"embeddings_{i}"], text[f"mask_{i}"] > 0.5)
            for i in range(len(self.network.spec.text_inputs))
        ]
        return {VELOCITY: self.network(latents, time, tokens)}


def build_subject(name: str, quick: bool) -> Subject:
    """Build a network with random weights, which are the same in every process."""
    file, width = (QUICK if quick else NETWORKS)[name]
    size = "128x128" if quick else "1024x1024"
    return load_subject(LiteRTExport(export="on_device", experiment=EXPERIMENTS / file, width=width, size=size))


def make_inputs(subject: Subject) -> dict[str, Tensor]:
    return example_inputs(subject.network.spec, subject.latent_size, subject.text_lengths)


def prepare(name: str, runtime: str, models: Path, quick: bool) -> Pass:
    """Load a network, warm it up, and return a function that runs one pass."""
    subject = build_subject(name, quick)
    inputs = make_inputs(subject)
    if runtime in FILES:
        return load_pass(models / f"{name}.{FILES[runtime]}", inputs)
    module = NamedInputs(subject.network)
    if runtime == COMPILED:
        compile_blocks(subject.network)  # compiled for one size, so it is warmed up at that size
        module(**inputs)
    else:
        height, width = subject.latent_size
        module(**make_inputs(replace(subject, latent_size=(height // 4, width // 4))))
    return lambda: module(**inputs)[VELOCITY]


def cpu_seconds(call: Pass) -> float:
    """Return how many seconds of CPU time this process spends on one call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def load_pass(file: Path, inputs: dict[str, Tensor]) -> Pass:
    """Load a converted file and return a function that runs one pass on one thread."""
    if file.suffix == ".tflite":
        model = LiteRTModel(file, threads=1)
        return lambda: model(inputs)[VELOCITY]
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    arrays = {name: value.numpy() for name, value in inputs.items()}
    return lambda: torch.from_numpy(session.run([VELOCITY], arrays)[0])


def convert_all(models: Path, quick: bool) -> dict[Key, Any]:
    """Convert every network that ``models`` does not contain yet, each in its own process.

    Returns:
        The report of ``convert_one`` for each network and runtime.
    """
    models.mkdir(parents=True, exist_ok=True)
    reports = {}
    for name, runtime in CONVERTED:
        file = models / f"{name}.{FILES[runtime]}"
        report_file = file.with_suffix(f"{file.suffix}.json")
        if not file.is_file() or not report_file.is_file():
            print(f"converting {name} for {runtime}", flush=True)
            report = run_in_child("--convert", name, "--runtime", runtime, models=models, quick=quick)
            write_atomically(report_file, json.dumps(report))
        reports[name, runtime] = json.loads(report_file.read_text())
    return reports


def run_in_child(*arguments: str, models: Path, quick: bool) -> Any:
    """Run this script in a separate process."""
    return run_child(__file__, *arguments, "--models", str(models), *(["--quick"] if quick else []))


def convert_one(name: str, runtime: str, models: Path, quick: bool) -> dict[str, Any]:
    """Convert a network and report its parameters, the file's size, operations and error, and the conversion's cost."""
    subject = build_subject(name, quick)
    module, inputs = NamedInputs(subject.network), make_inputs(subject)
    file = models / f"{name}.{FILES[runtime]}"
    result = convert_litert(module, inputs, file) if runtime == LITERT else convert_onnx(module, inputs, file)
    return {"parameters": count_parameters(subject.network), **result, "peak_gb": peak_bytes() / 1e9}


def convert_litert(module: NamedInputs, inputs: dict[str, Tensor], file: Path) -> dict[str, Any]:
    result = convert(module, inputs, file, tolerance=TOLERANCE)
    return {"seconds": result.seconds, "bytes": result.bytes, "operations": result.operations, "error": result.error}


def convert_onnx(module: NamedInputs, inputs: dict[str, Tensor], file: Path) -> dict[str, Any]:
    expected = module.eval()(**inputs)[VELOCITY]
    started = time.perf_counter()
    program = torch.onnx.export(
        module, kwargs=inputs, input_names=list(inputs), output_names=[VELOCITY], dynamo=True, verbose=False,
        optimize=False,  # would take more than ten minutes, and the runtime optimizes the file on loading
    )  # fmt: skip
    seconds = time.perf_counter() - started
    assert program is not None
    program.save(file, external_data=True)  # without external data, a file is limited to 2 GB
    comparison = compare(VELOCITY, load_pass(file, inputs)(), expected)
    if not TOLERANCE.accepts(comparison):
        raise RunError(f"{file}: differs from PyTorch: {TOLERANCE.describe_violation(comparison)}")
    size = sum(path.stat().st_size for path in file.parent.glob(f"{file.name}*"))
    return {"seconds": seconds, "bytes": size, "operations": len(program.model.graph), "error": comparison.max_error}


def measure(rounds: int, models: Path, quick: bool) -> dict[Key, list[float]]:
    """Time all passes alternately, and return how many seconds of CPU time each pass took in each round."""
    seconds: dict[Key, list[float]] = {key: [] for key in PASSES}
    with tqdm(total=rounds * len(PASSES), unit="pass", disable=quick) as bar:
        for _ in range(rounds):
            for name, runtime in PASSES:
                arguments = ("--time", name, "--runtime", runtime)
                seconds[name, runtime].append(float(run_in_child(*arguments, models=models, quick=quick)))
                bar.set_postfix_str(f"{name}, {runtime}: {seconds[name, runtime][-1]:.3g} s")
                bar.update()
    return seconds


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="passes per network and runtime (default: %(default)s)")
    parser.add_argument(
        "--models", type=Path, metavar="FOLDER", help="keep converted files in this folder and reuse them"
    )
    parser.add_argument(
        "--convert", choices=NETWORKS, help="convert one network, print a report, and exit (used internally)"
    )
    parser.add_argument(
        "--time", choices=NETWORKS, help="time one pass of a network, print the seconds, and exit (used internally)"
    )
    parser.add_argument("--runtime", choices=RUNTIMES, help="the runtime for --convert and --time")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    quick = args.quick
    if args.convert:
        print(json.dumps(convert_one(args.convert, args.runtime, args.models, quick)))
        return
    if args.time:
        print(json.dumps(cpu_seconds(prepare(args.time, args.runtime, args.models, quick))))
        return
    print_machine()
    with ExitStack() as stack:
        models = args.models or Path(stack.enter_context(TemporaryDirectory(prefix="on_device")))
        converted = convert_all(models, quick)
        seconds = measure(1 if quick else args.rounds, models, quick)
    report_conclusion(seconds, converted, args.json)


def report_conclusion(seconds: dict[Key, list[float]], converted: dict[Key, Any], path: Path | None) -> None:
    """Print the tables and whether the requirement is met, and write the JSON file."""
    print("\nbatch size 1, fp32, one thread; CPU seconds\n")
    conversions = [
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
        table(
            ["network", "runtime", "parameters", "converted in", "size", "operations", "error", "peak memory"],
            conversions,
        ),
        end="\n\n",
    )
    rows = [
        {
            "network": name,
            "runtime": runtime,
            "seconds": own,
            "eager_over_this": paired_ratio(seconds[name, EAGER], own),
        }
        for (name, runtime), own in seconds.items()
    ]
    cells = [
        [name, runtime, format_median(own), paired_ratio(seconds[name, EAGER], own)]
        for (name, runtime), own in seconds.items()
    ]
    print(table(["network", "runtime", "median", "torch eager / this"], cells), end="\n\n")
    ladder = {runtime: paired_ratio(seconds["A", runtime], seconds["D", runtime]) for runtime in (EAGER, LITERT)}
    for runtime, ratio in ladder.items():
        print(f"A / D with {runtime} on this CPU: {ratio}; on the paper's phone: {PHONE:.2f}")
    ratio = paired_ratio(seconds["small", EAGER], seconds["small", LITERT])
    met = ratio.median >= REQUIRED
    others = {name: paired_ratio(seconds["small", name], seconds["small", LITERT]) for name in (COMPILED, ONNX)}
    print(
        f"ratio: torch eager / LiteRT = {ratio} (at least {REQUIRED}); "
        + "; ".join(f"{runtime} / LiteRT = {other}" for runtime, other in others.items())
        + f": {verdict(met)}"
    )
    write_result(
        {
            "benchmark": "on_device",
            "rows": rows,
            "converted": [{"network": name, "runtime": runtime, **file} for (name, runtime), file in converted.items()],
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
