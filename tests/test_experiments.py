"""Tests that every shipped YAML file is valid and documented, and that the paper's models have the published sizes."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
import torch

from datamodules.shards.buckets import bucket_list
from evaluation.preference.settings import Preference
from evaluation.settings import Evaluation
from pocketdit.autoencoders.network import ConvAutoencoder
from pocketdit.backbones.build import build_network
from pocketdit.backbones.spec import AdaptiveSparseAttention
from pocketdit.commands.recipe.preparation import check_settings
from pocketdit.commands.recipe.settings import Recipe
from pocketdit.config.experiment import AutoencoderExperiment, DecoderExperiment, Experiment, kind_of
from pocketdit.config.load import Loaded, load
from pocketdit.decoders.tiny import TinyDecoder
from pocketdit.export.settings import Export, settings_class
from pocketdit.training.cost import parameters_by_width
from tests.conftest import ROOT

EVALUATIONS = sorted((ROOT / "experiments" / "eval").glob("*.yaml"))
STUDIES = sorted((ROOT / "experiments" / "eval" / "studies").glob("*.yaml"))
EXPORTS = sorted((ROOT / "experiments" / "export").glob("*.yaml"))
RECIPES = sorted((ROOT / "experiments").rglob("recipe.yaml"))
FILES = sorted(set((ROOT / "experiments").rglob("*.yaml")) - {*EVALUATIONS, *STUDIES, *EXPORTS, *RECIPES})


def experiment(name: str) -> Experiment:
    return load(ROOT / "experiments" / "paper" / f"{name}.yaml", [], Experiment).config


def header(path: Path) -> str:
    """Return the comment at the top of a file, without the leading ``#`` characters."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines)


def commands(text: str, verb: str) -> list[list[str]]:
    """Return the arguments of each indented ``lightning VERB`` command in a header, without the trailing comments."""
    joined = text.replace("\\\n", " ")
    return [
        shlex.split(line, comments=True) for line in re.findall(rf"^ +(?:srun )?lightning {verb} (.+)$", joined, re.M)
    ]


def assert_documented(path: Path, verb: str) -> None:
    text = header(path)
    assert str(path.relative_to(ROOT)) in [arguments[0] for arguments in commands(text, verb)]
    assert "\nCost: " in text
    assert "\nExpected: " in text


@pytest.mark.parametrize("path", EVALUATIONS, ids=lambda path: path.stem)
def test_evaluation_is_valid_and_documented(path: Path) -> None:
    loaded = load(path, ["run=x"], Evaluation)
    assert loaded.config.evaluation == path.stem
    assert_documented(path, "evaluate")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
def test_recipe_is_valid_and_documented(path: Path) -> None:
    recipe = load(path, [], Recipe).config
    check_settings(recipe)
    assert_documented(path, "run")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_preference_study_is_valid_and_documented(path: Path) -> None:
    loaded = load(path, ["run=x"], Preference)
    assert loaded.config.preference == path.stem
    for verb in ("create", "serve", "report"):
        assert_documented(path, f"preference {verb}")


@pytest.mark.parametrize("path", EXPORTS, ids=lambda path: path.stem)
def test_export_is_valid_and_documented(path: Path) -> None:
    loaded: Loaded[Export] = load(path, [], settings_class(path))
    assert loaded.config.export == path.stem
    assert_documented(path, "export")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_experiment_is_valid_and_documented(path: Path) -> None:
    loaded = load(path, [], kind_of(path))
    assert loaded.config.experiment == path.stem
    assert_documented(path, "run")
    with torch.device("meta"):
        if isinstance(loaded.config, DecoderExperiment):
            TinyDecoder(loaded.config.decoder)
        elif isinstance(loaded.config, AutoencoderExperiment):
            ConvAutoencoder(loaded.config.architecture)
        else:
            build_network(loaded.config.backbone)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_validation_is_bounded_regardless_of_the_size_of_the_data_set(path: Path) -> None:
    assert 1 <= load(path, [], kind_of(path)).config.data.init_args["validation_samples"] <= 4096


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_commands_in_headers_are_valid(path: Path) -> None:
    for file, *arguments in commands(header(path), "run"):
        load(ROOT / file, [argument for argument in arguments if "=" in argument], kind_of(ROOT / file))


@pytest.mark.parametrize(
    ("name", "published"), [("unet", 372e6), ("a", 424e6), ("b", 406e6), ("c", 408e6), ("d", 429e6)]
)
def test_ladder_has_the_published_sizes(name: str, published: float) -> None:
    [count] = parameters_by_width(experiment(f"ladder_{name}").backbone).values()
    assert count == pytest.approx(published, rel=0.05)


def test_supernet_has_the_published_sizes() -> None:
    sizes = parameters_by_width(experiment("elastic_256").backbone)
    assert 1.55e9 < sizes[1.0] < 1.65e9
    assert 0.35e9 < sizes[0.5] < 0.45e9
    assert 0.25e9 < sizes[0.375] < 0.35e9


def test_ladder_has_the_published_structure() -> None:
    """In Sec. 3.1 of the paper, A has one stage, B has three, C adds sparse attention, and D the other enhancements."""
    a, b, c, d = (experiment(f"ladder_{name}").dit for name in "abcd")
    assert len(a.levels) == 1
    assert a.levels[0].attention.kv_heads == 1
    assert a.levels[0].ffn_ratio == 3
    down, middle, up = b.levels
    assert middle.scale == 2
    assert middle.depth == down.depth + up.depth == a.levels[0].depth / 2
    assert 1 <= up.depth - down.depth <= 2
    assert [isinstance(level.attention, AdaptiveSparseAttention) for level in c.levels] == [True, False, True]
    sparse = c.levels[0].attention
    assert isinstance(sparse, AdaptiveSparseAttention)
    assert (sparse.blocks, sparse.radius) == (16, 1)
    assert [level.attention.kv_heads for level in d.levels] == [8, 8, 8]
    assert [level.ffn_ratio for level in d.levels] == [4, 3, 4]
    assert [level.long_skips for level in d.levels] == [False, True, False]
    assert [level.depth for level in c.levels] == [level.depth for level in b.levels]
    assert [level.depth for level in d.levels] == [down.depth + 2, middle.depth - 4, up.depth + 2]


def test_ladder_d_is_the_supernet_at_half_width() -> None:
    half, d = experiment("elastic_256").dit, experiment("ladder_d").dit
    assert half.hidden_size(0.5) == d.width
    assert half.levels == d.levels


def test_table_1_compares_networks_with_equal_architectures() -> None:
    elastic, half, full = (experiment(name).dit for name in ("elastic_imagenet", "ladder_d", "standalone_full"))
    assert elastic.standalone(0.5) == half
    assert elastic.standalone(1.0) == full
    assert parameters_by_width(elastic)[1.0] == pytest.approx(1.6e9, rel=0.05)


def test_both_stages_at_1024_start_from_the_run_at_256() -> None:
    elastic, distilled = experiment("elastic_1024"), experiment("knowledge_distill_1024")
    for later in (elastic, distilled):
        assert later.parents == {"start": "elastic_256"}
        assert later.backbone == experiment("elastic_256").backbone
        assert later.training.gradient_checkpointing
        assert later.stage.init_args["time_shift"] == 4  # sqrt(4096 / 256), the root of the ratio of token counts
    assert elastic.data == distilled.data
    multiple = 8 * elastic.backbone.latent_multiple
    assert all(side % multiple == 0 for bucket in bucket_list(1024) for side in bucket)
