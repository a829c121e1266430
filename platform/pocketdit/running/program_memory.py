"""Resident memory of a CPU training process, excluding its tensors, measured on Linux with torch 2.13."""

from pocketdit.config.declared import text_lengths
from pocketdit.config.experiment import AnyExperiment, Experiment
from pocketdit.counts import counted
from pocketdit.training.step_count import StepCount

# The interpreter, torch, Lightning, the other modules of a run, and what their first use allocates: the resident set of
# a run of experiments/tiny_decoder.yaml, whose tensors take 24 MiB.
PROGRAM = 600 << 20
# The kernels that torch and oneDNN generate when a network is trained with text of a new length. Blocks share them, so
# they do not depend on the depth. Measured by training one width with 24 lengths, on a processor with AVX512-BF16.
KERNELS_PER_LENGTH = 2.7 * 2**20
# Without a backward pass, one of three matrix products per layer remains.
FORWARD_ONLY = 1 / 3


def program_memory(experiment: AnyExperiment, count: StepCount) -> dict[str, int]:
    """Return the memory of the program and of its generated kernels in bytes, by purpose.

    The number of lengths is an upper bound: every batch has a new length until all lengths have occurred.
    """
    memory = {"program and libraries": PROGRAM}
    if not isinstance(experiment, Experiment):
        return memory
    batches = experiment.training.max_steps * experiment.training.accumulate
    lengths = min(batches, max(text_lengths(experiment.text_encoders)))
    # Passes through the same network use the same kernels.
    networks: dict[int, float] = {}
    for step, _ in count.passes:
        share = 1.0 if step.trained else FORWARD_ONLY
        networks[step.parameters] = max(share, networks.get(step.parameters, 0.0))
    kernels = int(lengths * KERNELS_PER_LENGTH * sum(networks.values()))
    return memory | {f"kernels for {counted(lengths, 'text length')}": kernels}
