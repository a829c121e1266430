"""Tests that a converted .tflite file matches PyTorch, and that it is either written completely or not at all."""

import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pocketdit.backbones.dit import ElasticDiT, extract_subnetwork
from pocketdit.backbones.spec import AdaptiveSparseAttention, DiTSpec, Level
from pocketdit.encoders.contract import TextTokens
from pocketdit.errors import ConfigError, RunError
from pocketdit.export.app.bundle import Bundle
from pocketdit.export.app.runtimes import load_runtime
from pocketdit.export.common.bundle_files import TEXT_PROJECTION, TRANSFORMER
from pocketdit.export.common.comparison import Tolerance, compare
from pocketdit.export.litert import dependency
from pocketdit.export.litert.convert import Conversion, convert
from pocketdit.export.litert.dependency import require_litert
from pocketdit.export.litert.graphs import VELOCITY, NamedGraph, Transformer, build_graphs, example_inputs
from pocketdit.export.litert.interpreter import LiteRTModel
from pocketdit.export.litert.settings import LiteRTRuntime

SPEC = DiTSpec(
    latent_channels=4, width=64, head_dim=8, text_inputs=(8, 12), text_width=16, text_kv_heads=2, widths=(0.5, 1.0),
    levels=(Level(1, AdaptiveSparseAttention("assa", kv_heads=2, blocks=2, radius=0)),), latent_std=(1.5, 1, 0.5, 0.1),
)  # fmt: skip
TOKENS = (5, 3)


class OneProduct(nn.Module):
    """A matrix product, which can be converted in about a second."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": self.map(x)}


class Orthogonalize(nn.Module):
    """An operation that LiteRT Torch does not support."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": torch.linalg.qr(x)[0]}


@pytest.fixture(scope="session")
def litert() -> None:
    pytest.importorskip("litert_torch", reason="LiteRT is optional: pip install 'pocketdit[litert]'")


@pytest.fixture(scope="session")
def network() -> ElasticDiT:
    """The sub-network of width 0.5 of a small supernet whose weights are all nonzero."""
    torch.manual_seed(0)
    supernet = ElasticDiT(SPEC)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return extract_subnetwork(supernet, 0.5).requires_grad_(False).eval()


def transformer_inputs(network: ElasticDiT, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert inputs of the whole network to inputs of its transformer graph."""
    return build_graphs(network, None, inputs)[TRANSFORMER].inputs


def expected_velocity(network: ElasticDiT, inputs: dict[str, Tensor]) -> Tensor:
    tokens = [TextTokens(inputs[f"embeddings_{i}"], inputs[f"mask_{i}"] > 0.5) for i in range(2)]
    velocity: Tensor = network(inputs["latents"], inputs["time"], tokens)
    return velocity


@pytest.fixture(scope="session")
def converted(litert: None, network: ElasticDiT, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """The network's transformer graph, converted to a .tflite file."""
    path = tmp_path_factory.mktemp("litert") / "transformer.tflite"
    graph = build_graphs(network, None, example_inputs(network.spec, (8, 12), TOKENS))[TRANSFORMER]
    return convert(NamedGraph(graph), graph.inputs, path, tolerance=Tolerance(max_error=1e-5))


def test_graphs_together_are_the_network(network: ElasticDiT) -> None:
    inputs = example_inputs(network.spec, (8, 12), TOKENS, seed=1)
    graphs = build_graphs(network, None, inputs)
    text = NamedGraph(graphs[TEXT_PROJECTION])(**graphs[TEXT_PROJECTION].inputs)
    actual = NamedGraph(graphs[TRANSFORMER])(latents=inputs["latents"], time=inputs["time"], **text)[VELOCITY]
    torch.testing.assert_close(actual, expected_velocity(network, inputs), rtol=0, atol=0)


def test_file_equals_the_network_on_other_inputs(network: ElasticDiT, converted: Conversion) -> None:
    inputs = example_inputs(network.spec, (8, 12), TOKENS, seed=1)
    actual = LiteRTModel(converted.path)(transformer_inputs(network, inputs))[VELOCITY]
    assert compare(VELOCITY, actual, expected_velocity(network, inputs)).max_error < 1e-5
    assert converted.error < 1e-5
    assert converted.snr > 100
    matrices = Transformer(network).state_dict()
    assert converted.bytes == converted.path.stat().st_size > 4 * sum(value.numel() for value in matrices.values())


def test_changed_weights_change_the_output(network: ElasticDiT, converted: Conversion) -> None:
    changed = extract_subnetwork(network, 1.0)
    with torch.no_grad():
        changed.stages[0].blocks[0].attention.out.weight[3, 4] += 0.1  # type: ignore[union-attr, index]
    inputs = example_inputs(network.spec, (8, 12), TOKENS)
    with torch.no_grad():
        expected = expected_velocity(changed, inputs)
    actual = LiteRTModel(converted.path)(transformer_inputs(network, inputs))[VELOCITY]
    assert compare(VELOCITY, actual, expected).max_error > 1e-4


def test_signature_has_names_and_shapes(converted: Conversion) -> None:
    assert LiteRTModel(converted.path).inputs == {
        "latents": (1, 4, 8, 12), "time": (1,), "text": (1, 1 + 5 + 3, 16), "text_mask": (1, 1 + 5 + 3),
    }  # fmt: skip


def test_masked_text_does_not_influence_the_output(network: ElasticDiT, converted: Conversion) -> None:
    """Changing a masked token does not change the output, but changing a visible token does."""
    model, inputs = LiteRTModel(converted.path), example_inputs(network.spec, (8, 12), TOKENS)
    before = model(transformer_inputs(network, inputs))[VELOCITY]
    inputs["embeddings_0"][:, -1] += torch.randn(8)
    torch.testing.assert_close(model(transformer_inputs(network, inputs))[VELOCITY], before, rtol=0, atol=0)
    inputs["embeddings_0"][:, 0] += torch.randn(8)
    assert (model(transformer_inputs(network, inputs))[VELOCITY] - before).abs().max() > 1e-3


def test_every_pass_is_timed(network: ElasticDiT, converted: Conversion) -> None:
    inputs = transformer_inputs(network, example_inputs(network.spec, (8, 12), TOKENS))
    measured = LiteRTModel(converted.path).milliseconds(inputs, runs=3)
    assert len(measured) == 3
    assert min(measured) > 0


def test_half_precision_weights_halve_the_file(litert: None, tmp_path: Path) -> None:
    inputs = {"x": torch.randn(1, 64)}
    full, half = (
        convert(OneProduct(), inputs, tmp_path / f"{weights}.tflite", weights) for weights in ("float32", "float16")
    )
    assert half.bytes < 0.7 * full.bytes
    assert 50 < half.snr < 90 < full.snr


def test_results_outside_the_tolerance_are_not_written(litert: None, tmp_path: Path) -> None:
    with pytest.raises(
        RunError,
        match=r"x.tflite: LiteRT's output differs from PyTorch's, so nothing was written: y: max_error is",
    ):
        convert(OneProduct(), {"x": torch.randn(1, 64)}, tmp_path / "x.tflite", "float16", Tolerance(max_error=1e-7))
    assert list(tmp_path.iterdir()) == []


def test_unsupported_operations_are_named(litert: None, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be converted to LiteRT: .*qr"):
        convert(Orthogonalize(), {"x": torch.randn(4, 4)}, tmp_path / "x.tflite")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_the_old_file(litert: None, tmp_path: Path) -> None:
    """A limit on file sizes simulates a full disk, because the system rejects the write in both cases."""
    path = tmp_path / "x.tflite"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            convert(OneProduct(), {"x": torch.randn(1, 64)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_inputs_that_differ_from_the_manifest_are_refused(litert: None, tmp_path: Path) -> None:
    module = OneProduct()
    convert(module, {"x": torch.randn(1, 64)}, tmp_path / "x.tflite")

    def run(shape: list[int], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        packages = {"x": {"file": "x.tflite", "inputs": {"x": {"shape": shape, "dtype": "float32"}}}}
        return load_runtime(Bundle(tmp_path, {"kind": "litert", "packages": packages}))("x", inputs)

    x = torch.randn(1, 64)
    torch.testing.assert_close(run([1, 64], {"x": x})["y"], module(x)["y"], atol=1e-5, rtol=1e-5)
    differs = (
        r"x\.tflite: has inputs with the shapes \{'x': \(1, 64\)\}, but the manifest lists \{'x': \(1, 32\)\}; export"
    )
    with pytest.raises(ConfigError, match=differs):
        run([1, 32], {"x": x[:, :32]})
    for wrong in ({"x": x[:, :32]}, {"z": x}):
        with pytest.raises(
            RunError, match=r"x\.tflite: the model expects inputs with the shapes \{'x': \(1, 64\)\}, not"
        ):
            run([1, 64], wrong)


def test_invalid_files_are_rejected(litert: None, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"not a model")
    with pytest.raises(RunError, match="not a valid LiteRT model"):
        LiteRTModel(path)


def test_missing_litert_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependency, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"^litert_torch is not installed; install it with: pip install 'pocketdit\[litert\]'$"
    ):
        require_litert()


def test_supernets_are_rejected() -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match="the network has several widths; extract a sub-network first"),
    ):
        Transformer(ElasticDiT(SPEC))


def test_invalid_runtime_settings_are_rejected() -> None:
    assert LiteRTRuntime(benchmark=Path("benchmark_model"), gpu=True).threads == 1
    for wrong in ({"threads": 0}, {"passes": -1}, {"gpu": True}, {"serial": "R58"}):
        with pytest.raises(ValueError, match=r"threads|passes|gpu|serial"):
            LiteRTRuntime(**wrong)  # type: ignore[arg-type]
