"""Measure latency with coremltools' benchmarker, on this Mac or on an iPhone that is connected to it.

This requires macOS. Measuring on an iPhone also requires Xcode 16 and a development team, which signs the app that runs
the packages.
"""

import asyncio
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from pocketdit.config.shell import command_line, operand
from pocketdit.errors import RunError
from pocketdit.latency.bundles import Bundle
from pocketdit.latency.records import LatencyRecord, content_hash, measurement, system_name
from pocketdit.latency.settings import Latency


def measure(bundle: Bundle, package: str, settings: Latency) -> LatencyRecord:
    """Time a package of the bundle with random inputs, after one warm-up evaluation.

    Raises:
        RunError: This is not a Mac, no iPhone is connected, or the measurement fails.
    """
    if sys.platform != "darwin":
        raise RunError(
            f"measure={settings.measure} requires macOS with Core ML, but this is {system_name()}; "
            f"predict the latency instead with: {command_line('latency', operand(bundle.folder))}"
        )
    path = bundle.path_of(package)
    try:
        samples, device_name, system = asyncio.run(_time_package(path, settings))
    except RunError:
        raise
    except Exception as error:  # the errors of Core ML, devicectl and Xcode have no common base class
        raise RunError(f"{path}: the measurement failed: {' '.join(str(error).split())}") from error
    device = settings.device or device_name
    return measurement(samples, package, content_hash(path), device, system, settings.units, bundle.batch_of(package),
                       bundle.size_text, device_name if device != device_name else "")  # fmt: skip


async def _time_package(path: Path, settings: Latency) -> tuple[list[float], str, str]:
    """Return the duration of each evaluation in milliseconds, and the name and system that the device reports."""
    import coremltools as ct
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    device, name, system = await _iphone(settings.team) if settings.measure == "iphone" else _this_mac()
    units = ct.ComputeUnit[settings.units]
    # If an iPhone runs the package, the Mac does not need to load it.
    model = ct.models.MLModel(str(path), compute_units=units, skip_model_load=device is not None)
    timing = await MLModelBenchmarker(model, device).benchmark_predict(iterations=settings.iterations, warmup=True)
    return list(timing.samples), name, system


def _this_mac() -> tuple[None, str, str]:
    chip = subprocess.run(
        ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True
    )
    return None, chip.stdout.strip(), system_name()


async def _iphone(team: str) -> tuple[Any, str, str]:
    """Install the app that runs packages, and return the connected iPhone, its name and its system."""
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device, DeviceType

    if not team:
        raise RunError("measure=iphone requires a signed app on the phone; add team=YOUR_APPLE_DEVELOPMENT_TEAM")
    connected = Device.get_connected_devices(DeviceType.IPHONE)
    if not connected:
        raise RunError(
            "measure=iphone: no iPhone is connected; connect one, unlock it and enable Developer Mode "
            "(see xcrun devicectl list devices)"
        )
    phone = connected[0]
    prepared = await phone.prepare_for_model_debugging(
        credentials=AppSigningCredentials(development_team=team, bundle_identifier="org.pocketdit.runner")
    )
    return prepared, phone.name, f"iOS {phone.os_version}"


def cost_by_compute_unit(path: Path, units: str) -> dict[str, float]:
    """Return each compute unit's share of the cost that Core ML estimates for the operations on this Mac."""
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
