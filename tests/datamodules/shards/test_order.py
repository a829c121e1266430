"""Tests for the order in which training and validation read the data."""

from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest

from datamodules.shards.order import TrainingOrder, batch_sizes, divides_equally, epoch_windows, validation_batches


def _columns(rows: int, shards: int = 9, buckets: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    return np.sort(rng.integers(0, shards, rows)), rng.integers(0, buckets, rows)


def _epoch(shards: np.ndarray, buckets: np.ndarray, **options: Any) -> list[np.ndarray]:
    """Return the batches of all ranks in one epoch."""
    return [batch for window in epoch_windows(shards, buckets, **options) for batch in window.batches]


def _flat(batches: list[np.ndarray]) -> list[int]:
    return [int(row) for batch in batches for row in batch]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("window", [1, 2, 64])
@pytest.mark.parametrize("rows", [41, 320])
def test_epoch_uses_every_row_once_in_batches_of_one_bucket(rows: int, window: int, world_size: int) -> None:
    shards, buckets = _columns(rows)
    for epoch in range(3):
        options = {"batch_size": 8, "seed": 1, "epoch": epoch, "world_size": world_size, "window": window}
        batches = _epoch(shards, buckets, **options)
        assert sorted(_flat(batches)) == list(range(rows))
        assert all(len(set(buckets[batch].tolist())) == 1 for batch in batches)
        assert all(1 <= len(batch) <= 8 for batch in batches)
        assert len(batches) % world_size == 0


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_ranks_get_disjoint_batches_and_the_same_number_of_them(world_size: int) -> None:
    shards, buckets = _columns(100)
    seen, lengths = [], set()
    for rank in range(world_size):
        order = TrainingOrder(shards, buckets, batch_size=6, seed=3, world_size=world_size, rank=rank, window=2)
        requests = list(islice(order, order.batches_per_epoch + 1))
        assert [request.epoch for request in requests] == [0] * order.batches_per_epoch + [1]
        lengths.add(order.batches_per_epoch)
        seen += [request.rows for request in requests[:-1]]
    assert len(lengths) == 1
    assert sorted(_flat(seen)) == list(range(100))


def test_only_the_last_batch_of_a_bucket_is_smaller() -> None:
    sizes = batch_sizes([100, 33, 0, 8], batch_size=8, world_size=1)
    assert sizes == [[8] * 12 + [4], [8, 8, 8, 8, 1], [], [8]]


def test_largest_batches_are_halved_to_give_every_rank_the_same_number() -> None:
    sizes = batch_sizes([20, 3], batch_size=8, world_size=6)
    assert sum(map(len, sizes)) == 6
    assert [sum(bucket) for bucket in sizes] == [20, 3]
    assert max(map(max, sizes)) == 4


@pytest.mark.parametrize(("count", "batch_size", "world_size"), [(1, 4, 2), (3, 8, 4), (10, 1, 3), (1, 1, 8)])
def test_too_few_samples_for_every_rank_are_repeated(count: int, batch_size: int, world_size: int) -> None:
    shards, buckets = _columns(count, shards=1, buckets=1)
    trained, validated, lengths = [], [], set()
    for rank in range(world_size):
        order = TrainingOrder(shards, buckets, batch_size=batch_size, seed=3, world_size=world_size, rank=rank)
        trained.append([r.rows.tolist() for r in islice(order, 2 * order.batches_per_epoch)])
        validation = validation_batches(shards, buckets, batch_size=batch_size, world_size=world_size, rank=rank)
        validated.append([request.rows.tolist() for request in validation])
        lengths |= {order.batches_per_epoch, len(validation)}
    (length,) = lengths
    assert length == -(-count // world_size)
    for batches in (
        [rows for rank in trained for rows in rank[:length]],
        [rows for rank in trained for rows in rank[length:]],
        [rows for rank in validated for rows in rank],
    ):
        assert {len(rows) for rows in batches} == {1}
        uses = np.bincount([row for rows in batches for row in rows], minlength=count)
        assert uses.min() >= 1
        assert uses.max() - uses.min() <= 1


def test_order_depends_on_seed_and_epoch_only() -> None:
    shards, buckets = _columns(100)

    def rows(seed: int, epoch: int) -> list[int]:
        return _flat(_epoch(shards, buckets, batch_size=8, seed=seed, epoch=epoch, window=2))

    assert rows(0, 0) == rows(0, 0)
    assert rows(0, 0) != rows(1, 0)
    assert rows(0, 0) != rows(0, 1)


def test_window_reads_only_its_own_shards_and_rows_carried_over() -> None:
    shards, buckets = _columns(900, shards=9, buckets=2)
    batches = _epoch(shards, buckets, batch_size=8, seed=0, epoch=0, window=3)
    first_third = set(shards[np.concatenate(batches[: len(batches) // 3 - 4])].tolist())
    assert len(first_third) == 3


@pytest.mark.parametrize("start", [0, 1, 7, 12, 13, 14, 40])
def test_order_with_a_start_is_the_tail_of_the_full_order(start: int) -> None:
    shards, buckets = _columns(100)
    options: dict[str, Any] = {"batch_size": 6, "seed": 3, "world_size": 2, "rank": 1, "window": 2}
    whole = list(islice(TrainingOrder(shards, buckets, **options), 60))
    tail = list(islice(TrainingOrder(shards, buckets, start=start, **options), 60 - start))
    assert len({request.epoch for request in whole}) > 3
    assert [r.epoch for r in tail] == [r.epoch for r in whole[start:]]
    assert all(np.array_equal(a.rows, b.rows) for a, b in zip(tail, whole[start:], strict=True))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_batches_contain_every_row_once_and_every_rank_has_the_same_number(world_size: int) -> None:
    shards, buckets = _columns(50)
    ranks = [
        validation_batches(shards, buckets, batch_size=4, world_size=world_size, rank=r) for r in range(world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    rows = [request.rows for batches in ranks for request in batches]
    assert sorted(_flat(rows)) == list(range(50))
    assert all(len(set(buckets[batch].tolist())) == 1 for batch in rows)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_request_names_the_shards_of_its_batch_and_of_all_batches_until_the_next_window(world_size: int) -> None:
    """A shard that is in neither ``keep`` nor ``ahead`` of a request is not needed before a later request lists it."""
    shards, buckets = _columns(900, shards=12, buckets=3)
    options: dict[str, Any] = {"batch_size": 8, "seed": 0, "world_size": world_size, "window": 3}
    for rank in range(world_size):
        order = TrainingOrder(shards, buckets, rank=rank, **options)
        requests = list(islice(order, 3 * order.batches_per_epoch))
        for request, following in pairwise(requests):
            assert set(shards[request.rows]) <= set(request.keep.tolist())
            # A request lists every shard that the following request needs.
            assert set(shards[following.rows]) <= set(request.keep.tolist()) | set(request.ahead.tolist())
            assert len(set(request.keep.tolist())) <= 6
        carried = [len(set(request.keep.tolist())) > 3 for request in requests[: order.batches_per_epoch]]
        assert any(carried)
        assert not all(carried)


def test_rows_that_are_carried_over_come_first_in_the_next_window() -> None:
    shards, buckets = _columns(900, shards=12, buckets=3)
    first, second, *_ = epoch_windows(shards, buckets, batch_size=8, seed=0, epoch=0, window=3)
    outside = [bool(set(shards[batch]) - set(second.shards.tolist())) for batch in second.batches]
    assert sum(outside) == len(second.carried) > 0
    assert outside == sorted(outside, reverse=True)
    assert first.carried == []
    for batch, carried in zip(second.batches, second.carried, strict=False):
        assert set(shards[batch]) <= set(carried.tolist()) | set(second.shards.tolist())
        assert set(carried.tolist()) <= set(first.shards.tolist())


def test_order_of_a_single_window_is_that_of_earlier_versions() -> None:
    """Old checkpoints of runs with at most ``window`` shards remain valid. The expected rows are those of version 1."""
    shards, buckets = _columns(41)
    order = TrainingOrder(shards, buckets, batch_size=6, seed=3, world_size=2, rank=1, window=64)
    rows = [request.rows.tolist() for request in islice(order, 2)]
    assert rows == [[4, 5, 23, 34, 3, 25], [26, 12, 39, 20, 15, 14]]


def test_validation_requests_name_the_shards_of_the_next_batches() -> None:
    shards, buckets = _columns(200, shards=9, buckets=2)
    requests = validation_batches(shards, buckets, batch_size=8, window=3)
    for request, following in pairwise(requests):
        assert set(shards[request.rows]) == set(request.keep.tolist())
        assert set(request.ahead.tolist()[: len(following.keep)]) == set(following.keep.tolist()[:3])
        assert len(request.ahead) <= 3
    firsts = [int(request.rows[0]) for request in requests]
    assert firsts == sorted(firsts)


def test_other_numbers_of_ranks_can_continue_the_same_sequence_of_batches() -> None:
    """1, 2, 4 or 8 ranks can share the 24 batches of an epoch equally. Other numbers would repeat or split batches."""
    buckets, shards = np.zeros(48, dtype=np.int64), np.repeat(np.arange(6), 8)

    def sequence(world_size: int, start: int, count: int) -> list[list[int]]:
        options: dict[str, Any] = {"batch_size": 2, "seed": 3, "world_size": world_size, "window": 2, "start": start}
        ranks = [islice(TrainingOrder(shards, buckets, rank=r, **options), count) for r in range(world_size)]
        return [request.rows.tolist() for step in zip(*ranks, strict=True) for request in step]

    assert all(divides_equally(buckets, 2, 8, (4, ranks)) for ranks in (1, 2, 4, 8))
    expected = sequence(4, 0, 9)  # crosses the end of the first epoch
    assert sequence(2, 0, 18) == sequence(1, 0, 36) == expected
    assert sequence(1, 4 * 5, 16) == sequence(2, 2 * 5, 8) == expected[4 * 5 :]
    assert not divides_equally(buckets, 2, 5, (4, 5))
    assert not divides_equally(buckets, 2, 4, (4, 16))
    assert not divides_equally(buckets, 2, 5, (4, 8)), "five steps of four ranks are 2.5 steps of eight ranks"
