"""The optimizers that have been tested, and what each of them supports.

Checks of the configuration and the table in ``docs/training.md`` use the same entries. An optimizer that is not listed,
such as a custom class, is accepted, but not with FSDP2 if its class sets ``supports_sharding`` to false.
"""

from dataclasses import dataclass

from pocketdit.errors import ConfigError

FSDP2, LORA, OWN_EMA = "fsdp2", "lora", "own_ema"


@dataclass(frozen=True)
class OptimizerSupport:
    """What an optimizer supports.

    Attributes:
        class_path: Import path of the class, as in a configuration.
        note: Remark on the optimizer for the table.
        refused: The features that the optimizer does not support, each with the reason: ``FSDP2``, ``LORA``, or
            ``OWN_EMA`` for stages that average their weights themselves.
        package: Package that must be installed in addition, if any.
        constant_rate: Whether the learning rate must stay constant after the warm-up.
    """

    class_path: str
    note: str
    refused: tuple[tuple[str, str], ...] = ()
    package: str = ""
    constant_rate: bool = False

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.class_path.rpartition(".")[2]

    def reason(self, feature: str) -> str | None:
        """Return the reason why the optimizer does not support a feature, or None if it does."""
        return dict(self.refused).get(feature)


MUON = "pocketdit.training.muon.MuonAdamW"
SCHEDULE_FREE = "schedulefree.AdamWScheduleFree"

TESTED = (
    OptimizerSupport("torch.optim.AdamW", "a good default; `fused: true` updates all weights in one kernel"),
    OptimizerSupport(
        MUON,
        "Muon for the matrices of the blocks, AdamW for the rest",
        refused=((FSDP2, "Muon needs complete matrices"), (LORA, "Muon would orthogonalize each factor by itself")),
    ),
    OptimizerSupport(
        "bitsandbytes.optim.AdamW8bit",
        "8-bit optimizer state for large tensors",
        refused=((FSDP2, "its state is not sharded"),),
        package="bitsandbytes",
    ),
    OptimizerSupport(
        SCHEDULE_FREE,
        "no learning rate decay; the averaged weights replace the EMA weights",
        refused=(
            (FSDP2, "the state of sharded weights starts at zero, but the iterate z must start at the weights"),
            (OWN_EMA, "the stage does not use the averaged weights"),
        ),
        package="schedulefree",
        constant_rate=True,
    ),
)
_BY_PATH = {support.class_path: support for support in TESTED}


def support_of(class_path: str) -> OptimizerSupport | None:
    """Return what a tested optimizer supports, or None if the optimizer has not been tested."""
    return _BY_PATH.get(class_path)


def require_supported(class_path: str, feature: str) -> None:
    """Raise ``ValueError`` if an optimizer is known not to support a feature."""
    support = support_of(class_path)
    if support is not None and (reason := support.reason(feature)):
        what = {FSDP2: "sharded weights (fsdp2)", LORA: "LoRA", OWN_EMA: "this stage"}[feature]
        raise ValueError(f"optimizer: {support.name} does not support {what}: {reason}; use torch.optim.AdamW")


def check_optimizer(class_path: str, strategy: str, decay: str) -> None:
    """Raise ``ValueError`` if an optimizer is known not to support a strategy or a learning-rate schedule."""
    if strategy == FSDP2:
        require_supported(class_path, FSDP2)
    support = support_of(class_path)
    if support is not None and support.constant_rate and decay != "constant":
        raise ValueError(f"training.decay: must be constant with {support.name}, which replaces the decay; not {decay}")


def require_working(class_path: str) -> None:
    """Raise ``ConfigError`` for an optimizer that fails at its first step.

    torchao's optimizers require a tensor as the learning rate, but the schedule replaces it with a number.
    """
    if class_path.startswith("torchao."):
        other = "bitsandbytes.optim.AdamW8bit"
        raise ConfigError(f"{class_path} does not work with a learning-rate schedule; for 8-bit state, use {other}")


def support_table() -> str:
    """Return a Markdown table of the tested optimizers."""
    lines = ["| `optimizer.class_path` | one device | DDP | FSDP2 | LoRA | |", "|---|---|---|---|---|---|"]
    for support in TESTED:
        sharded, lora = ("no" if support.reason(feature) else "yes" for feature in (FSDP2, LORA))
        lines.append(f"| `{support.class_path}` | yes | yes | {sharded} | {lora} | {support.note} |")
    return "\n".join(lines)
