"""Checks that all processes of a run have the same settings, checkpoint and data. Otherwise, they would diverge."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from pocketdit.errors import ConfigError
from pocketdit.running.gathering import gather
from pocketdit.running.lineage import differences


class RequireAgreement(Callback):
    """Stops a run if its processes were started differently, for example on a node with different copies of the files.

    Args:
        facts: Values that must be equal in all processes, by key.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the facts of all processes, before they exchange anything else.

        Raises:
            ConfigError: The facts differ. Every process raises the same error.
        """
        gathered = gather(self.facts, trainer.world_size)
        for rank, facts in enumerate(gathered):
            for key, (first, other) in differences(gathered[0], facts).items():
                raise ConfigError(
                    f"{key}: process 0 has {first}, but process {rank} has {other}; start all processes with the same "
                    "file and options, in folders with the same content"
                )
