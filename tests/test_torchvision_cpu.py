"""torchvision can be imported with a CPU build of torch."""

import subprocess
import sys
from pathlib import Path

import pocketdit

SOURCE = Path(pocketdit.__file__).parent.parent


def run(code: str) -> str:
    """Run code in a new interpreter and return its output."""
    prefix = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); "
    process = subprocess.run([sys.executable, "-c", prefix + code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_torchvision_and_libraries_that_need_it_can_be_imported() -> None:
    printed = run(
        "import pocketdit.torchvision_cpu as t; t.install()\n"
        "import torchvision, lightning, diffusers\n"
        "from torchvision.transforms import v2\n"
        "import torch; print(torch.ops.torchvision.nms.default)"
    )
    assert printed == "torchvision.nms.default"


def test_installing_twice_adds_one_finder_and_does_not_load_torch() -> None:
    printed = run(
        "import pocketdit.torchvision_cpu as t\n"
        "t.install(); t.install()\n"
        "print(sum(isinstance(f, t._TorchvisionFinder) for f in sys.meta_path), 'torch' in sys.modules)"
    )
    assert printed == "1 False"


def test_finding_torchvision_does_not_load_torch() -> None:
    printed = run(
        "import importlib.util, pocketdit.torchvision_cpu as t; t.install()\n"
        "spec = importlib.util.find_spec('torchvision'); print(spec.name, 'torch' in sys.modules)"
    )
    assert printed == "torchvision False"


def test_missing_torchvision_is_not_found() -> None:
    printed = run(
        "import importlib.util, pocketdit.torchvision_cpu as t; t.install()\n"
        "sys.path[:] = [sys.path[0]]; print(importlib.util.find_spec('torchvision'))"
    )
    assert printed == "None"
