"""Latency on Apple devices by coremltools' own benchmarker: this Mac, or an iPhone that is connected to it.

Needs macOS; for an iPhone Xcode 16 and a development team, too, which sign the app that runs packages on the phone.
"""

import asyncio
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from pocketdit.errors import RunError
from pocketdit.latency.bundles import Bundle
from pocketdit.latency.records import LatencyRecord, content_hash, measured, this_system
from pocketdit.latency.settings import Latency


def measure(bundle: Bundle, name: str, settings: Latency) -> LatencyRecord:
    """Time a package of the bundle with random inputs, one evaluation before those that count.

    ``RunError`` where this is no Mac, no iPhone is connected, or Core ML refuses the package.
    """
    if sys.platform != "darwin":
        raise RunError(
            f"measure={settings.measure} needs macOS with Core ML, this is {this_system()}; "
            f"predict instead: lightning latency {bundle.folder}"
        )
    path = bundle.package(name)
    try:
        samples, own_name, system = asyncio.run(_timed(path, settings))
    except RunError:
        raise
    except Exception as error:  # Core ML's, devicectl's and Xcode's errors have no common type
        raise RunError(f"{path}: not measured: {' '.join(str(error).split())}") from error
    where = settings.device or own_name
    return measured(samples, name, content_hash(path), where, system, settings.units, bundle.batch_of(name),
                    bundle.size_text, own_name if where != own_name else "")  # fmt: skip


async def _timed(path: Path, settings: Latency) -> tuple[list[float], str, str]:
    """Milliseconds of every evaluation, what the device calls itself, its system."""
    import coremltools as ct
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    device, name, system = await _iphone(settings.team) if settings.measure == "iphone" else _this_mac()
    # A phone loads the package itself; here it is only read.
    units = ct.ComputeUnit[settings.units]
    model = ct.models.MLModel(str(path), compute_units=units, skip_model_load=device is not None)
    timing = await MLModelBenchmarker(model, device).benchmark_predict(iterations=settings.iterations, warmup=True)
    return list(timing.samples), name, system


def _this_mac() -> tuple[None, str, str]:
    chip = subprocess.run(
        ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True
    )
    return None, chip.stdout.strip(), this_system()


async def _iphone(team: str) -> tuple[Any, str, str]:
    """The connected iPhone with the app that runs packages on it; its name; its system."""
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device, DeviceType

    if not team:
        raise RunError("measure=iphone signs an app for the phone: add team=YOUR_APPLE_DEVELOPMENT_TEAM")
    connected = Device.get_connected_devices(DeviceType.IPHONE)
    if not connected:
        raise RunError("no iPhone is connected, unlocked and in developer mode (xcrun devicectl list devices)")
    phone = connected[0]
    ready = await phone.prepare_for_model_debugging(
        credentials=AppSigningCredentials(development_team=team, bundle_identifier="org.elasticdit.runner")
    )
    return ready, phone.name, f"iOS {phone.os_version}"


def compute_plan(path: Path, units: str) -> dict[str, float]:
    """Share of Core ML's estimated cost by the device that it prefers for the operations; on this Mac."""
    import coremltools as ct
    from coremltools.models.compute_plan import MLComputePlan

    model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit[units])
    plan = MLComputePlan.load_from_path(model.get_compiled_model_path(), compute_units=ct.ComputeUnit[units])
    program = plan.model_structure.program
    shares: defaultdict[str, float] = defaultdict(float)
    for operation in program.functions["main"].block.operations:
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
        if usage is not None and cost is not None:
            device = type(usage.preferred_compute_device).__name__
            shares[device.removeprefix("ML").removesuffix("ComputeDevice")] += cost.weight
    return dict(shares)
