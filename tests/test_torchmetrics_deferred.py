"""Tests that importing Lightning does not import all of torchmetrics, which nevertheless provides all its names."""

import pytest

from tests.interpreter import run_python


def run(code: str) -> str:
    """Run code in a new interpreter that has imported pocketdit, and return its output."""
    return run_python(f"import pocketdit\n{code}")


def test_lightning_imports_only_the_base_classes() -> None:
    printed = run(
        "import lightning.pytorch\n"
        "loaded = [name for name in ('torchvision', 'transformers', 'scipy') if name in sys.modules]\n"
        "from torchmetrics import Metric, MetricCollection\n"
        "import torchmetrics.metric\n"
        "print(loaded, 'torchmetrics.functional' in sys.modules, Metric is torchmetrics.metric.Metric)"
    )
    assert printed == "[] False True"


@pytest.mark.slow
def test_every_public_name_is_there() -> None:
    """The reference is torchmetrics in an interpreter without the import finder that defers its imports."""
    names = "import torchmetrics; print(sorted(torchmetrics.__all__), torchmetrics.__version__)"
    reference = run(f"sys.meta_path = [f for f in sys.meta_path if type(f).__name__ != '_TorchmetricsFinder']\n{names}")
    assert run(names) == reference
    assert "'PearsonCorrCoef'" in reference


def test_lightning_logs_metrics_of_torchmetrics() -> None:
    printed = run(
        "import lightning.pytorch, torch\n"
        "from torchmetrics import MeanMetric, Metric\n"
        "metric = MeanMetric(); metric.update(torch.tensor([1.0, 3.0]))\n"
        "from lightning.pytorch.core import module\n"
        "print(isinstance(metric, module.Metric), module.Metric is Metric, float(metric.compute()))"
    )
    assert printed == "True True 2.0"


def test_a_submodule_can_be_imported_first() -> None:
    assert run("from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity as L; print(L.__name__)") == (
        "LearnedPerceptualImagePatchSimilarity"
    )


def test_a_missing_name_is_an_attribute_error() -> None:
    assert run("import torchmetrics; print(hasattr(torchmetrics, 'NoSuchMetric'))") == "False"
