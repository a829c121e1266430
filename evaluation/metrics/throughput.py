"""Images per second with the largest batch that fits into memory, as in the paper's Table 2.

The measured time runs from the prompts to the pixels, and includes the text encoders, all sampling steps and the
decoder. It excludes loading the model and the first batch, in which libraries choose their kernels.
"""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch

from evaluation.contract import Prompt, Result, Score
from evaluation.subjects.sampling import device
from pocketdit.bounds import Count
from pocketdit.config.component import Component, Role, build
from pocketdit.counts import counted
from pocketdit.errors import ConfigError, RunError
from pocketdit.running.sampling_memory import NotEnoughMemoryError

SAMPLER = Role("a subject that samples images", ("sample", "provenance"), ("steps", "batch_size"))
SIDE_MULTIPLE = 32
# Memory use does not depend on the number of steps, except that multistep samplers also store the previous step. Two
# steps are therefore enough for a trial.
TRIAL_STEPS = 2
PROMPT = "a red fox asleep in the snow, next to a wooden fence, in the light of a winter morning"


class Throughput:
    """Images per second of a run or a pipeline on this machine, with the largest batch that fits into its memory.

    Args:
        subject: The run or the pipeline. Its own ``batch_size`` has no effect.
        size: Height and width of the images in pixels, multiples of 32.
        max_batch: Largest batch size to try. On a CPU, set it to a batch size that is known to fit.
        repeats: Number of batches to time. The median is reported.
        prompt: Prompt of all images.

    Raises:
        ConfigError: A side is not a multiple of 32.
    """

    def __init__(
        self,
        subject: Annotated[Component, SAMPLER],
        size: tuple[int, int] = (1024, 1024),
        max_batch: Count = 64,
        repeats: Count = 3,
        prompt: str = PROMPT,
    ) -> None:
        if any(side < 1 or side % SIDE_MULTIPLE for side in size):
            raise ConfigError(f"size: sides must be multiples of {SIDE_MULTIPLE}, not {size[0]}x{size[1]}")
        self.subject, self.size, self.max_batch = subject, (size[0], size[1]), max_batch
        self.repeats, self.prompt = repeats, prompt

    def measure(self) -> Result:
        """Measure the throughput. "overall" is the number of images per second, and "batch" is the batch size.

        Raises:
            RunError: Not even a single image fits into memory.
        """
        batch = self._largest_batch()
        free_memory()
        subject = self._build()
        # With all steps, fragmentation may leave less memory than with two.
        while batch and not self._fits(subject, batch):
            batch -= max(1, batch // 8)
        if not batch:
            raise RunError(f"throughput: an image of {self.size[0]}x{self.size[1]} pixels does not fit into memory")
        seconds = []
        for _ in range(self.repeats):
            free_memory()  # a run checks before each batch that enough memory is free
            seconds.append(self._seconds(subject, batch))
        made = subject.provenance()
        where = (
            torch.cuda.get_device_name() if device() != "cpu" else f"CPU, {counted(torch.get_num_threads(), 'thread')}"
        )
        settings = ", ".join(
            [
                counted(made["steps"], "step"),
                f"guidance {made['guidance']:g}",
                made["dtype"],
                f"{self.size[0]}x{self.size[1]} pixels",
                f"batches of {batch}",
                where,
            ]
        )
        images = self.repeats * batch
        limit = "" if batch < self.max_batch else "; larger batches were not tried (max_batch)"
        return Result(
            "throughput",
            {
                "overall": Score(batch / statistics.median(seconds), images),
                "batch": Score(float(batch), images),
            },
            protocol={
                "subject": made,
                "size": list(self.size),
                "max_batch": self.max_batch,
                "repeats": self.repeats,
                "prompt": self.prompt,
                "device": where,
                "torch": torch.__version__,
                "value": "images per second, median over batches, from the prompt to the pixels",
            },
            notes=(f"images per second with {settings}{limit}",),
        )

    def _build(self, **more: int) -> Any:
        arguments = {**self.subject.init_args, "batch_size": 1, **more}
        return build(Component(self.subject.class_path, arguments))

    def _largest_batch(self) -> int:
        """Return the largest batch size for which sampling a few steps fits into memory, or 0 if there is none."""
        subject = self._build(steps=TRIAL_STEPS)
        return largest_batch(lambda batch: self._fits(subject, batch), self.max_batch)

    def _fits(self, subject: Any, batch: int) -> bool:
        """Sample a batch, and return whether there was enough memory."""
        try:
            self._seconds(subject, batch)
        except (torch.OutOfMemoryError, NotEnoughMemoryError):
            return False
        finally:
            free_memory()
        return True

    def _seconds(self, subject: Any, batch: int) -> float:
        """Sample a batch, and return the time in seconds. The images end up on the CPU, so no GPU work is pending."""
        height, width = self.size
        prompts = [Prompt(str(i), self.prompt, {"height": height, "width": width}) for i in range(batch)]
        subject.batch_size = batch
        start = time.perf_counter()
        images = sum(1 for _ in subject.sample(prompts, 0))
        assert images == batch
        return time.perf_counter() - start


def largest_batch(fits: Callable[[int], bool], limit: int) -> int:
    """Return the largest number up to a limit for which ``fits`` is true, or 0 if there is none.

    The number is doubled until it no longer fits, and the largest one that fits is then found by bisection. If a number
    fits, smaller numbers are assumed to fit.
    """
    good, bad = 0, limit + 1
    while good + 1 < bad:
        trial = min(max(1, 2 * good), limit) if bad > limit else (good + bad) // 2
        if fits(trial):
            good = trial
        else:
            bad = trial
    return good


def free_memory() -> None:
    """Free the GPU memory of deleted tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
