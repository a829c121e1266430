"""Resident memory of a CPU training process, excluding its tensors, measured on Linux with torch 2.13."""

from pocketdit.config.declared import text_lengths
from pocketdit.config.experiment import AnyExperiment, Experiment
from pocketdit.counts import counted
from pocketdit.training.step_count import StepCount

# Memory in bytes of the interpreter, torch, Lightning and the other modules of a run, including what their first use
# allocates. Measured as the resident set size of a run of experiments/tiny_decoder.yaml, whose tensors take 24 MiB.
PROGRAM = 600 << 20
# Memory in bytes of the kernels that torch and oneDNN generate for each new text length. All blocks share the kernels,
# so the depth does not matter. Measured by training one width with 24 text lengths on a processor with AVX512-BF16.
KERNELS_PER_LENGTH = 2.7 * 2**20
# Without a backward pass, one of three matrix products per layer remains.
FORWARD_ONLY = 1 / 3


def program_memory(experiment: AnyExperiment, count: StepCount) -> dict[str, int]:
    """Return the memory in bytes of the program and of the kernels generated at run time, by purpose.

    The number of text lengths is an upper bound: it assumes that every batch has a new length until all have occurred.
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
