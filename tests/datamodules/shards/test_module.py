"""Tests for the data module, on its own and in a Lightning trainer."""

import contextlib
import logging
import multiprocessing
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.core.optimizer import LightningOptimizer

from datamodules.shards.loader import BatchLoader, SkippedSamples
from datamodules.shards.module import ShardDataModule
from pocketdit.data_contract import DataDescription, DescribedData
from pocketdit.errors import ConfigError, RunError
from tests.datamodules.latents import build_latents

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

Seen = list[tuple[list[int], list[str], float]]


def _seen(batch: dict[str, Any]) -> tuple[list[int], list[str], float]:
    return batch["ids"].tolist(), batch["captions"], float(batch["images"].float().mean())


def _take(module: ShardDataModule, count: int) -> Seen:
    return [_seen(batch) for batch in islice(module.train_dataloader(), count)]


class Recorder(LightningModule):
    """Trains one weight with manual optimization, and records the batch of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: Seen = []
        self.validated: list[int] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        optimizer.zero_grad()
        self.manual_backward((self.weight - batch["images"].float().mean() / 255).square().sum())
        optimizer.step()
        self.seen.append(_seen(batch))

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validated += batch["ids"].tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _trainer(folder: Path, steps: int, **options: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_steps=steps,
        max_epochs=-1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"limit_val_batches": 0, "enable_checkpointing": False, **options},
    )


def test_batch_has_the_documented_entries(make_dataset: Callable[..., Path]) -> None:
    batch = next(iter(ShardDataModule(str(make_dataset()), batch_size=4, workers=0).train_dataloader()))
    size = len(batch["captions"])
    assert batch["images"].dtype == torch.uint8
    assert batch["images"].shape[:2] == (size, 3)
    assert batch["ids"].dtype == torch.int64
    assert len(batch["ids"]) == len(batch["keys"]) == size
    assert batch["skipped"] == []


def test_epoch_contains_every_sample_with_its_own_image_and_caption(
    make_dataset: Callable[..., Path],
) -> None:
    module = ShardDataModule(str(make_dataset()), batch_size=4, workers=0, caption="short")
    batches = list(islice(module.train_dataloader(), module.batches_per_epoch))
    assert sorted(row for batch in batches for row in batch["ids"].tolist()) == list(range(40))
    assert {batch["images"].shape[2:] for batch in batches} == {(128, 128), (96, 160), (160, 96)}
    for batch in batches:
        assert batch["captions"] == [f"short {row}" for row in batch["ids"].tolist()]
        assert batch["keys"] == [f"{row:08d}" for row in batch["ids"].tolist()]


def test_order_does_not_depend_on_the_number_of_workers(make_dataset: Callable[..., Path]) -> None:
    path = str(make_dataset())
    options: dict[str, Any] = {"batch_size": 4, "crop": "random", "flip": True}
    zero, one, two = (_take(ShardDataModule(path, workers=workers, **options), 30) for workers in (0, 1, 2))
    assert zero == one == two


def test_spawned_workers_give_the_same_batches(make_dataset: Callable[..., Path]) -> None:
    module = ShardDataModule(str(make_dataset()), batch_size=4, workers=0)
    expected = _take(module, 3)
    requests = list(islice(module._order(), 3))
    batches = module._batches(module._split("train"))
    loader = BatchLoader(batches, lambda: requests, workers=1, skipped=SkippedSamples(), start_method="spawn")
    assert [_seen(batch) for batch in loader] == expected


@pytest.mark.parametrize("start", [1, 5, 13])
def test_resuming_without_a_trainer_gives_the_remaining_batches(make_dataset: Callable[..., Path], start: int) -> None:
    path = str(make_dataset())
    whole = _take(ShardDataModule(path, batch_size=4, workers=0), 20)
    module = ShardDataModule(path, batch_size=4, workers=2)
    module.load_state_dict({**module.state_dict(), "batches": start})
    assert _take(module, 20 - start) == whole[start:]


@pytest.mark.parametrize("stop", [3, 9, 14])
def test_resumed_trainer_sees_the_batches_of_an_uninterrupted_one(
    make_dataset: Callable[..., Path], tmp_path: Path, stop: int
) -> None:
    path, total = str(make_dataset()), 18
    whole = Recorder()
    _trainer(tmp_path, total).fit(whole, ShardDataModule(path, batch_size=4, workers=2))

    saver = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=stop, save_top_k=-1, filename="{step}")
    first = Recorder()
    # Train for two steps after the checkpoint, to simulate a run that is killed between two checkpoints.
    options = {"callbacks": [saver], "enable_checkpointing": True}
    _trainer(tmp_path, stop + 2, **options).fit(first, ShardDataModule(path, batch_size=4, workers=2))

    second = Recorder()
    module = ShardDataModule(path, batch_size=4, workers=2)
    saver = ModelCheckpoint(tmp_path / "again", every_n_train_steps=total, filename="{step}")
    options = {"callbacks": [saver], "enable_checkpointing": True}
    checkpoint = tmp_path / "saved" / f"step={stop}.ckpt"
    _trainer(tmp_path, total, **options).fit(second, module, ckpt_path=checkpoint, weights_only=True)
    assert first.seen[:stop] + second.seen == whole.seen
    assert second.weight.item() == whole.weight.item()

    # If the state counted the batches before the first checkpoint twice, a second resume would skip batches.
    state = torch.load(tmp_path / "again" / f"step={total}.ckpt", weights_only=True)["ShardDataModule"]
    assert state["batches"] == total


def test_validation_and_checkpoints_during_it_do_not_change_the_training_batches(
    make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    path = str(make_dataset())
    validate = {"limit_val_batches": None, "val_check_interval": 4, "check_val_every_n_epoch": None}
    whole = Recorder()
    _trainer(tmp_path, 12, **validate).fit(whole, ShardDataModule(path, batch_size=4, workers=2))
    assert sorted(whole.validated[-6:]) == list(range(6))

    saver = ModelCheckpoint(
        tmp_path / "saved", save_on_train_epoch_end=False, every_n_epochs=1, save_top_k=-1, filename="{step}"
    )
    options = {**validate, "callbacks": [saver], "enable_checkpointing": True}
    first = Recorder()
    _trainer(tmp_path, 6, **options).fit(first, ShardDataModule(path, batch_size=4, workers=2))
    second = Recorder()
    checkpoint = tmp_path / "saved" / "step=4.ckpt"
    module = ShardDataModule(path, batch_size=4, workers=2)
    _trainer(tmp_path, 12, **validate).fit(second, module, ckpt_path=checkpoint, weights_only=True)
    assert first.seen[:4] + second.seen == whole.seen


def test_lightning_epochs_do_not_change_the_training_batches(make_dataset: Callable[..., Path], tmp_path: Path) -> None:
    path = str(make_dataset())
    whole = Recorder()
    _trainer(tmp_path, 10).fit(whole, ShardDataModule(path, batch_size=4, workers=0))
    cut = Recorder()
    _trainer(tmp_path, 10, limit_train_batches=3).fit(cut, ShardDataModule(path, batch_size=4, workers=2))
    assert cut.seen == whole.seen


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 5}, "batch_size was 4, now 5"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"base_size": 64}, "base_size was 128, now 64"),
        ({"window": 1}, "window was 64, now 1"),
    ],
)
def test_changed_setting_is_rejected_unless_allowed(
    make_dataset: Callable[..., Path], change: dict[str, Any], message: str
) -> None:
    path = str(make_dataset())
    options: dict[str, Any] = {"batch_size": 4, "workers": 0}
    state = {**ShardDataModule(path, **options).state_dict(), "batches": 10, "samples": 32}
    with pytest.raises(RunError, match=f"{message}; .*--allow-changes") as refusal:
        ShardDataModule(path, **{**options, **change}).load_state_dict(state)
    assert "\n" not in str(refusal.value)
    module = ShardDataModule(path, **{**options, **change}, allow_changes=True)
    module.load_state_dict(state)
    assert module.start_batch == round(32 / 40 * module.batches_per_epoch)


def test_checkpoint_of_the_earlier_order_is_rejected_where_the_order_has_changed(
    make_dataset: Callable[..., Path],
) -> None:
    path = str(make_dataset())  # this data set has six shards
    for window, is_accepted in ((6, True), (5, False)):
        module = ShardDataModule(path, batch_size=4, window=window)
        state = {key: value for key, value in module.state_dict().items() if key != "order"}
        with (
            contextlib.nullcontext() if is_accepted else pytest.raises(RunError, match=r"order was 1, now 2; .*--allow")
        ):
            module.load_state_dict(state)


def test_changed_data_are_rejected(make_dataset: Callable[..., Path]) -> None:
    state = ShardDataModule(str(make_dataset()), batch_size=4).state_dict()
    with pytest.raises(RunError, match="fingerprint was"):
        ShardDataModule(str(make_dataset(train=39, name="other")), batch_size=4).load_state_dict(state)


@pytest.mark.parametrize("key", ["batches", "samples", "fingerprint", "seed"])
def test_state_of_another_data_module_is_rejected(make_dataset: Callable[..., Path], key: str) -> None:
    module = ShardDataModule(str(make_dataset()), batch_size=4)
    state = {name: value for name, value in module.state_dict().items() if name != key}
    with pytest.raises(RunError, match=f"does not record '{key}', so another data module saved it"):
        module.load_state_dict(state)


def test_ranks_divide_the_validation_samples(make_dataset: Callable[..., Path]) -> None:
    path = str(make_dataset(validation=13))

    class _Trainer:
        world_size = 2

        def __init__(self, rank: int) -> None:
            self.global_rank = rank
            self.fit_loop = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False).fit_loop

    rows, lengths = [], []
    for rank in range(2):
        module = ShardDataModule(path, batch_size=4, workers=0, validation_samples=11)
        module.trainer = _Trainer(rank)  # type: ignore[assignment]  # a stand-in
        loader = module.val_dataloader()
        lengths.append(len(loader))
        rows += [row for batch in loader for row in batch["ids"].tolist()]
    assert lengths[0] == lengths[1]
    assert sorted(rows) == list(range(11))


def test_validation_batches_are_the_same_in_every_pass(make_dataset: Callable[..., Path]) -> None:
    loader = ShardDataModule(str(make_dataset()), batch_size=4, workers=1).val_dataloader()
    first = [_seen(batch) for batch in loader]
    next(iter(loader))  # start a pass without finishing it, like Lightning's sanity check
    assert [_seen(batch) for batch in loader] == first


def test_workers_exit_when_the_fit_ends_or_fails(
    make_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(make_dataset())
    validate = {"limit_val_batches": None, "val_check_interval": 2, "check_val_every_n_epoch": None}
    before = set(multiprocessing.active_children())
    model, module = Recorder(), ShardDataModule(path, batch_size=4, workers=2)
    _trainer(tmp_path, 4, **validate).fit(model, module)
    assert set(multiprocessing.active_children()) == before

    def fail(*_: Any) -> None:
        raise ValueError("on purpose")

    monkeypatch.setattr(model, "on_validation_end", fail)
    with pytest.raises(ValueError, match="on purpose"):
        _trainer(tmp_path, 4, **validate).fit(model, module)
    assert set(multiprocessing.active_children()) == before


def test_loading_does_not_change_the_global_random_state(make_dataset: Callable[..., Path]) -> None:
    module = ShardDataModule(str(make_dataset()), batch_size=4, workers=2)
    before = torch.get_rng_state()
    _take(module, 2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: must be at least 1, not 0"),
        ({"batch_size": 4, "base_size": 100}, "base_size: must be a multiple of 32 up to 65536, not 100"),
        ({"batch_size": 4, "caption": "tall"}, "caption: 'tall' is not"),
        ({"batch_size": 4, "caption": 1.5}, "caption: 1.5 is not"),
    ],
)
def test_invalid_argument_is_rejected_with_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShardDataModule("nowhere", **options)


def test_description_has_the_fingerprint_and_the_stored_autoencoder(
    make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    images = ShardDataModule(str(make_dataset()), batch_size=4)
    assert isinstance(images, DescribedData)
    assert images.describe() == DataDescription(images.fingerprint, stored_autoencoder=None, has_images=True)
    build_latents(tmp_path / "latents", 2, 0)
    description = ShardDataModule(str(tmp_path / "latents"), batch_size=4).describe()
    assert not description.has_images
    assert description.stored_autoencoder is not None
    assert description.stored_autoencoder["class"] == "pocketdit.encoders.dct.DCTAutoencoder"


def test_missing_data_set_is_rejected_with_the_command_that_creates_it(
    make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    ShardDataModule.require_available({"path": str(make_dataset()), "batch_size": 4})
    ShardDataModule.require_available({})  # no error, because the configuration loader reports the missing path
    for name, source in (("scenes", "scenes"), ("mine", "IMAGE_FOLDER")):
        path = tmp_path / name
        message = f"data.init_args.path: {path} does not .*lightning data build {source} {path}$"
        with pytest.raises(ConfigError, match=message):
            ShardDataModule.require_available({"path": str(path)})
