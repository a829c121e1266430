"""Tests that the table agrees with the paper's Eq. 1 to 3 on a network that is small enough to compute by hand."""

import pytest

from benchmarks.paper_table import (
    DEVICE,
    PAPER,
    attention_kinds,
    count_cost,
    keys_per_query,
    load_experiment,
    table,
    with_attention,
)
from pocketdit.backbones.spec import AdaptiveSparseAttention, DiTSpec, FullAttention, Level

WIDTH, HEAD, KV = 64, 16, 2
TOKENS, MIDDLE, DEPTHS = 256, 64, (2, 1, 3)  # number of tokens in the outer and middle levels for 32x32 latents


@pytest.fixture
def spec() -> DiTSpec:
    sparse = AdaptiveSparseAttention("assa", KV, 4, 1)
    down, middle, up = DEPTHS
    levels = (Level(down, sparse), Level(middle, FullAttention("full", KV), scale=2), Level(up, sparse))
    return DiTSpec(4, WIDTH, HEAD, (8,), WIDTH, KV, levels)


@pytest.mark.parametrize(("blocks", "radius", "neighbors"), [(4, 1, 160.0), (16, 0, 16.0), (2, 1, 256.0)])
def test_arithmetic_matches_the_equations(spec: DiTSpec, blocks: int, radius: int, neighbors: float) -> None:
    kind = AdaptiveSparseAttention("assa", KV, blocks, radius)
    row = count_cost(spec, kind, (32, 32), (5,))
    assert (row.neighbors, row.compressed) == (neighbors, TOKENS // 4)
    # Logits and weighted sums of values; a multiply-add is two FLOPs.
    products = 4 * WIDTH * TOKENS * (neighbors + TOKENS // 4)
    compression = 2 * 2 * (TOKENS // 4) * (KV * HEAD) ** 2 * 4
    gate = 2 * TOKENS * WIDTH * (WIDTH // HEAD)
    middle = 4 * WIDTH * MIDDLE**2 * DEPTHS[1]
    assert row.attention == (products + compression + gate) * (DEPTHS[0] + DEPTHS[2]) + middle


def test_full_attention_attends_to_all_tokens(spec: DiTSpec) -> None:
    row = count_cost(spec, FullAttention("full", KV), (32, 32), (5,))
    assert (row.neighbors, row.compressed) == (TOKENS, 0)
    assert row.attention == 4 * WIDTH * (TOKENS**2 * (DEPTHS[0] + DEPTHS[2]) + MIDDLE**2 * DEPTHS[1])


def test_only_the_sparse_levels_change(spec: DiTSpec) -> None:
    kind = AdaptiveSparseAttention("assa", KV, 8, 2)
    assert [level.attention for level in with_attention(spec, kind).levels] == [kind, spec.levels[1].attention, kind]


def test_the_paper_choice_is_one_of_the_rows() -> None:
    experiment = load_experiment()
    kind = experiment.dit.levels[0].attention
    assert isinstance(kind, AdaptiveSparseAttention)
    assert (kind.blocks, kind.radius) == PAPER
    assert attention_kinds(kind.kv_heads).count(kind) == 1


def test_the_papers_network_has_4096_tokens_and_one_text_encoder() -> None:
    from pocketdit.config.declared import latent_sides, text_lengths

    experiment = load_experiment()
    assert latent_sides(experiment.autoencoder, (1024, 1024)) == (128, 128)
    assert text_lengths(experiment.text_encoders) == [77]
    assert keys_per_query(FullAttention("full", 1), 4096) == (4096.0, 0)


def test_more_keys_cost_more(spec: DiTSpec) -> None:
    rows = [count_cost(spec, AdaptiveSparseAttention("assa", KV, 16, radius), (32, 32), (5,)) for radius in (0, 1, 2)]
    for figure in ("neighbors", "attention", "forward", "latency"):
        values = [getattr(row, figure) for row in rows]
        assert values == sorted(values), figure
        assert values[0] < values[-1], figure


def test_the_paper_choice_is_marked(spec: DiTSpec) -> None:
    kinds = (FullAttention("full", KV), *attention_kinds(KV)[4:6])
    text = table([count_cost(spec, kind, (32, 32), (5,)) for kind in kinds])
    marked = [line for line in text.splitlines() if line.rstrip().endswith("the paper's choice")]
    assert len(marked) == 1
    assert marked[0].startswith("B = 16, r = 1 ")
    assert DEVICE in text
