"""A network as a .tflite file: it runs, equals PyTorch, and is written whole or not at all."""

import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pocketdit.backbones.dit import ElasticDiT, extract
from pocketdit.backbones.spec import AdaptiveSparseAttention, DiTSpec, Level
from pocketdit.errors import ConfigError, RunError
from pocketdit.litert import interpreter
from pocketdit.litert.convert import Converted, convert
from pocketdit.litert.interpreter import LiteRTModel, relative_error, require_litert, signal_to_noise
from pocketdit.litert.network import VELOCITY, NamedInputs, example_inputs
from pocketdit.litert.settings import LiteRT

SPEC = DiTSpec(
    latent_channels=4, width=64, head_dim=8, text_inputs=(8, 12), text_width=16, text_kv_heads=2, widths=(0.5, 1.0),
    levels=(Level(1, AdaptiveSparseAttention("assa", kv_heads=2, blocks=2, radius=0)),), latent_std=(1.5, 1, 0.5, 0.1),
)  # fmt: skip
TOKENS = (5, 3)


class Double(nn.Module):
    """One matrix product, converted in a second."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": self.map(x)}


class Sorting(nn.Module):
    """An operation that LiteRT Torch does not lower."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": torch.linalg.qr(x)[0]}


@pytest.fixture(scope="session")
def litert() -> None:
    pytest.importorskip("litert_torch", reason="LiteRT is an extra: pip install 'pocketdit[litert]'")


@pytest.fixture(scope="session")
def network() -> ElasticDiT:
    """The half width of a small supernet, no weight of it zero."""
    torch.manual_seed(0)
    supernet = ElasticDiT(SPEC)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return extract(supernet, 0.5).requires_grad_(False).eval()


@pytest.fixture(scope="session")
def converted(litert: None, network: ElasticDiT, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    path = tmp_path_factory.mktemp("litert") / "network.tflite"
    return convert(NamedInputs(network), example_inputs(network.spec, (8, 12), TOKENS), path, max_error=1e-5)


def test_the_file_equals_the_network_on_other_inputs(network: ElasticDiT, converted: Converted) -> None:
    inputs = example_inputs(network.spec, (8, 12), TOKENS, seed=1)
    found = LiteRTModel(converted.path)(inputs)[VELOCITY]
    expected = NamedInputs(network)(**inputs)[VELOCITY]
    assert relative_error(found, expected) < 1e-5
    assert converted.error < 1e-5 and converted.snr > 100
    assert converted.bytes == converted.path.stat().st_size > 4 * sum(p.numel() for p in network.parameters())


def test_a_changed_weight_shows(network: ElasticDiT, converted: Converted) -> None:
    changed = extract(network, 1.0)
    with torch.no_grad():
        changed.stages[0].blocks[0].attention.out.weight[3, 4] += 0.1  # type: ignore[union-attr, index]
    inputs = example_inputs(network.spec, (8, 12), TOKENS)
    assert relative_error(LiteRTModel(converted.path)(inputs)[VELOCITY], changed_output(changed, inputs)) > 1e-4


def changed_output(network: ElasticDiT, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return NamedInputs(network)(**inputs)[VELOCITY]  # type: ignore[no-any-return]


def test_the_signature_has_names_and_shapes(converted: Converted) -> None:
    assert LiteRTModel(converted.path).inputs == {
        "latents": (1, 4, 8, 12), "time": (1,),
        "embeddings_0": (1, 5, 8), "mask_0": (1, 5), "embeddings_1": (1, 3, 12), "mask_1": (1, 3),
    }  # fmt: skip


def test_hidden_text_does_not_matter(network: ElasticDiT, converted: Converted) -> None:
    """The mask of the file works: what stands behind it changes nothing, what it shows does."""
    model, inputs = LiteRTModel(converted.path), example_inputs(network.spec, (8, 12), TOKENS)
    before = model(inputs)[VELOCITY]
    inputs["embeddings_0"][:, -1] += 1
    torch.testing.assert_close(model(inputs)[VELOCITY], before, rtol=0, atol=0)
    inputs["embeddings_0"][:, 0] += 1
    assert (model(inputs)[VELOCITY] - before).abs().max() > 1e-3


def test_times_are_of_every_pass(network: ElasticDiT, converted: Converted) -> None:
    measured = LiteRTModel(converted.path).milliseconds(example_inputs(network.spec, (8, 12), TOKENS), runs=3)
    assert len(measured) == 3 and min(measured) > 0


def test_half_precision_weights_halve_the_file(litert: None, tmp_path: Path) -> None:
    inputs = {"x": torch.randn(1, 64)}
    whole, half = (
        convert(Double(), inputs, tmp_path / f"{weights}.tflite", weights) for weights in ("float32", "float16")
    )
    assert half.bytes < 0.7 * whole.bytes
    assert 50 < half.snr < 90 < whole.snr


def test_a_result_that_differs_too_much_is_not_written(litert: None, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"differs from PyTorch's by .* nothing was written"):
        convert(Double(), {"x": torch.randn(1, 64)}, tmp_path / "x.tflite", "float16", max_error=1e-7)
    assert list(tmp_path.iterdir()) == []


def test_an_operation_without_a_counterpart_is_named(litert: None, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be converted to LiteRT: .*qr"):
        convert(Sorting(), {"x": torch.randn(4, 4)}, tmp_path / "x.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(litert: None, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the system refuses the write."""
    path = tmp_path / "x.tflite"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError):
            convert(Double(), {"x": torch.randn(1, 64)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_what_is_no_model_is_refused(litert: None, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"not a model")
    with pytest.raises(RunError, match="is not a complete LiteRT model"):
        LiteRTModel(path)


def test_without_litert_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^litert_torch is not installed: pip install 'pocketdit\[litert\]'$"):
        require_litert()


def test_one_width_only() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="extract it first"):
        NamedInputs(ElasticDiT(SPEC))


def test_differences_by_hand() -> None:
    expected, found = torch.tensor([1.0, -2.0, 2.0]), torch.tensor([1.0, -2.0, 2.3])
    assert relative_error(found, expected) == pytest.approx(0.15)
    assert signal_to_noise(found, expected) == pytest.approx(20.0)  # 9 / 0.09


def test_settings() -> None:
    assert LiteRT(benchmark=Path("benchmark_model"), gpu=True).threads == 1
    for wrong in ({"threads": 0}, {"passes": -1}, {"gpu": True}, {"serial": "R58"}):
        with pytest.raises(ValueError):
            LiteRT(**wrong)  # type: ignore[arg-type]
