"""Tests that torchvision can be imported with a CPU build of torch."""

from tests.interpreter import run_python


def test_torchvision_and_libraries_that_need_it_can_be_imported() -> None:
    printed = run_python(
        "import pocketdit.torchvision_cpu as t; t.install()\n"
        "import torchvision, lightning, diffusers\n"
        "from torchvision.transforms import v2\n"
        "import torch; print(torch.ops.torchvision.nms.default)"
    )
    assert printed == "torchvision.nms.default"


def test_installing_twice_adds_one_finder_and_does_not_load_torch() -> None:
    printed = run_python(
        "import pocketdit.torchvision_cpu as t\n"
        "t.install(); t.install()\n"
        "print(sum(isinstance(f, t._TorchvisionFinder) for f in sys.meta_path), 'torch' in sys.modules)"
    )
    assert printed == "1 False"


def test_finding_torchvision_does_not_load_torch() -> None:
    printed = run_python(
        "import importlib.util, pocketdit.torchvision_cpu as t; t.install()\n"
        "spec = importlib.util.find_spec('torchvision'); print(spec.name, 'torch' in sys.modules)"
    )
    assert printed == "torchvision False"


def test_missing_torchvision_is_not_found() -> None:
    printed = run_python(
        "import importlib.util, pocketdit.torchvision_cpu as t; t.install()\n"
        "sys.path[:] = [sys.path[0]]; print(importlib.util.find_spec('torchvision'))"
    )
    assert printed == "None"
