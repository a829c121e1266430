"""Workers, which claim trials from the queue, run them in their own process, and record the outcomes."""

import os
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.trial import TrialState

from pocketdit.config.secrets import mask
from pocketdit.errors import RunInterruptedError, UserError
from sweeps.checks import load_sweep
from sweeps.engine.training import LostTrialError, PrunedTrialError
from sweeps.engine.trial import InfeasibleError, StudyComponents, TrialRun
from sweeps.overrides import flatten, load_experiment
from sweeps.settings import Sweep
from sweeps.storage.connection import storage_errors
from sweeps.storage.store import Store

POLL_SECONDS = 0.3
# An idle worker exits so that it does not outlive a killed command. A running command starts a replacement.
IDLE_SECONDS = 600.0


@dataclass
class Worker:
    """Runs trials of a study, one at a time."""

    store: Store
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")

    def __post_init__(self) -> None:
        self.components = StudyComponents(self.store.sweep)

    def run_one(self) -> bool:
        """Claim a trial and run it.

        Returns:
            False if no trial is waiting.

        Raises:
            RunInterruptedError: The worker was interrupted; its trial returns to the queue.
        """
        claimed = self.store.claim(self.name)
        if claimed is None:
            return False
        promoted, trial = claimed
        study = self.store.study(promoted)
        with self.store.heartbeat(study, trial) as lost:
            run = TrialRun(self.store, self.components, trial, promoted, lost)
            try:
                values = run.run()
            except LostTrialError:
                return True
            except InfeasibleError as error:
                tell(study, trial, TrialState.FAIL, "infeasible", str(error))
            except PrunedTrialError:
                tell(study, trial, TrialState.PRUNED, "pruned")
            except (RunInterruptedError, KeyboardInterrupt, SystemExit) as error:
                tell(study, trial, TrialState.FAIL, "interrupted", str(error))
                raise RunInterruptedError(
                    f"interrupted in trial {trial.number}; run the same command again to resume"
                ) from None
            except Exception as error:  # an error caused by a trial's configuration fails only that trial
                run.log(mask(traceback.format_exc()))
                message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                tell(study, trial, TrialState.FAIL, "failed", message.strip().splitlines()[0])
            else:
                tell(study, trial, TrialState.COMPLETE, "complete", values=values)
        return True


def tell(
    study: optuna.Study,
    trial: optuna.Trial,
    state: TrialState,
    outcome: str,
    reason: str = "",
    values: list[float] | None = None,
) -> None:
    """Record a trial's outcome, unless the trial no longer belongs to this worker."""
    with suppress(optuna.exceptions.UpdateFinishedTrialError):
        trial.set_user_attr("outcome", outcome)
        if reason:
            trial.set_user_attr("reason", mask(reason))
        study.tell(trial, values, state, skip_if_finished=True)


def work(sweep: Sweep, index: int, folder: Path) -> None:
    """Run trials until the study is closed, the parent process ends, or the queue has been empty for a long time.

    Args:
        sweep: The study's settings.
        index: Index of the worker.
        folder: Working directory of the command, to which paths in the settings are relative.
    """
    os.chdir(folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # for class paths of the user's own modules
    parent = os.getppid()
    load_experiment(sweep.base, flatten(sweep.set))  # import the experiment's classes before the first trial
    worker = Worker(Store(sweep, index))
    idle_since = time.monotonic()
    while not worker.store.closed and os.getppid() == parent:
        if worker.run_one():
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since > IDLE_SECONDS:
            return
        else:
            time.sleep(POLL_SECONDS)


def work_on(settings: Path, index: int, folder: Path) -> None:
    """Run trials of the study whose settings are in a YAML file, which may refer to passwords in the environment.

    SLURM announces the time limit of the job with SIGUSR2. submitit's handler would let the trial fail. Instead,
    the trial is interrupted, and another worker resumes it.
    """
    signal.signal(signal.SIGUSR2, lambda *_: sys.exit(143))
    work(load_sweep(settings, []).config, index, folder)


def main() -> None:
    """Run a worker process, started as ``python -m sweeps.engine.worker SETTINGS INDEX``."""
    from pocketdit.running.requirements import quiet_warnings

    quiet_warnings()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sweep = load_sweep(Path(sys.argv[1]), []).config
        with storage_errors(sweep):
            work(sweep, int(sys.argv[2]), Path.cwd())
    except UserError as error:
        print(mask(str(error)), file=sys.stderr)
        sys.exit(error.status)


if __name__ == "__main__":
    main()
