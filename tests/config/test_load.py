import re
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from pocketdit.config.component import Component, Supplied
from pocketdit.config.load import Loaded, load
from pocketdit.errors import ConfigError


@dataclass(frozen=True)
class Full:
    kind: Literal["full"]
    heads: int = 8


@dataclass(frozen=True)
class Sparse:
    kind: Literal["sparse"]
    heads: int = 8
    radius: int = 1


@dataclass(frozen=True)
class Level:
    depth: int
    attention: Full | Sparse


@dataclass(frozen=True)
class Trainer:
    max_steps: int = 100
    warmup_steps: int = 10
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.warmup_steps > self.max_steps:
            raise ValueError("warmup_steps must not exceed max_steps")


ADAMW = Component("torch.optim.AdamW", {"lr": 1e-3})


@dataclass(frozen=True)
class Run:
    name: str
    data: Component
    levels: tuple[Level, ...]
    encoders: list[Component]
    optimizer: Annotated[Component, Supplied("params")] = ADAMW
    trainer: Trainer = field(default_factory=Trainer)
    seed: int = 0
    root: Path = Path("runs")


RUN = """\
name: small
data:
  class_path: gallery.shards.ShardData
  init_args: {path: FOLDER}
levels:
  - depth: 2
    attention: {kind: full}
  - depth: 3
    attention: {kind: sparse, radius: 2}
encoders:
  - class_path: gallery.stages.Mlp
    init_args: {width: 16}
trainer:
  max_steps: 50
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A valid file ``x.yaml`` in the working directory, which also contains a folder ``scenes``."""
    monkeypatch.chdir(tmp_path)
    Path("scenes").mkdir()
    Path("x.yaml").write_text(RUN.replace("FOLDER", "scenes"))
    return Path("x.yaml")


def edited(file: Path, old: str, new: str) -> Path:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    return file


def message(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file, list(overrides), Run)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def again(loaded: Loaded[Run]) -> Loaded[Run]:
    Path("again.yaml").write_text(loaded.to_yaml())
    return load(Path("again.yaml"), [], Run)


def test_typed_objects_and_defaults(file: Path) -> None:
    config = load(file, [], Run).config
    assert config.levels == (Level(2, Full("full")), Level(3, Sparse("sparse", radius=2)))
    assert config.trainer == Trainer(max_steps=50)
    assert config.data.init_args["path"] == Path("scenes")
    assert config.data.init_args["batch_size"] == 32
    assert config.optimizer.init_args["lr"] == 1e-3
    assert config.optimizer.init_args["betas"] == (0.9, 0.999)


def test_overrides(file: Path) -> None:
    overrides = [
        "levels.0.depth=4",
        "levels[1].attention.heads=2",
        "levels.0.attention={kind: sparse}",
        "encoders[0].init_args.scale=2e-3",
        "optimizer.init_args.lr=0.5",
        "trainer.clip=1",
        "seed=1e3",
        "name='7'",
    ]
    config = load(file, overrides, Run).config
    assert config.levels == (Level(4, Sparse("sparse")), Level(3, Sparse("sparse", heads=2, radius=2)))
    assert config.encoders[0].init_args == {"width": 16, "scale": 0.002}
    assert config.optimizer.init_args["lr"] == 0.5
    assert (config.trainer.clip, config.seed, config.name) == (1.0, 1000, "7")


def test_overrides_add_keys_that_the_file_omits(file: Path) -> None:
    edited(file, "    init_args: {width: 16}\n", "")
    assert load(file, ["encoders.0.init_args.width=3"], Run).config.encoders[0].init_args["width"] == 3
    edited(file, "name: small\n", "")
    assert load(file, ["encoders.0.init_args.width=3", "name=x"], Run).config.name == "x"


def test_later_overrides_win(file: Path) -> None:
    assert load(file, ["seed=1", "seed=2"], Run).config.seed == 2


def test_interpolations_use_overridden_and_default_values(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_NAME", "from-environment")
    edited(file, "name: small", "name: ${oc.env:RUN_NAME}\nseed: ${trainer.warmup_steps}")
    edited(file, "max_steps: 50", "max_steps: ${levels.0.depth}000")
    config = load(file, ["levels.0.depth=7"], Run).config
    assert (config.name, config.seed) == ("from-environment", 10)
    assert config.trainer.max_steps == 7000


@pytest.mark.parametrize("name", ["no", "1e3", "012", "null", "2026-01-01", "a: b", "ä\n b ", "$x", "", "x" * 200])
def test_round_trip(file: Path, name: str) -> None:
    loaded = load(file, ["trainer.clip=1e-7", "seed=-3"], Run)
    loaded.resolved["name"] = name
    restored = again(loaded)
    assert restored.config.name == name
    assert restored.resolved == loaded.resolved
    assert again(restored).config == restored.config


@pytest.mark.parametrize("text", [r"\${a}", r"x\${a.b}y", r"\${a"])
def test_round_trip_of_escaped_interpolations(file: Path, text: str) -> None:
    loaded = load(file, [f"name='{text}'"], Run)
    assert loaded.config.name == text.replace("\\", "")
    assert again(loaded).config == loaded.config


WRONG_FILE = [
    ("max_steps: 50", "max_step: 50", "x.yaml:14: trainer.max_step: unknown key; did you mean 'max_steps'?"),
    ("max_steps: 50", "max_steps: ten", "x.yaml:14: trainer.max_steps: expected int, got 'ten'"),
    ("trainer:", "trianer:", "x.yaml:13: trianer: unknown key; did you mean 'trainer'?"),
    (
        "max_steps: 50",
        "precision: bf16-mixd",
        "x.yaml:14: trainer.precision: 'bf16-mixd' is not one of '32-true', 'bf16-mixed'; did you mean 'bf16-mixed'?",
    ),
    ("max_steps: 50", "max_steps: 5", "x.yaml:13: trainer: warmup_steps must not exceed max_steps"),
    ("\n  max_steps: 50", "", "x.yaml:13: trainer: expected a mapping, got null"),
    ("name: small\n", "", "x.yaml: missing required key 'name'"),
    ("name: small", "name: no", "x.yaml:1: name: expected str, got False; put it in quotes"),
    ("{path: scenes}", "{}", "x.yaml:4: data.init_args: missing required key 'path' of ShardData"),
    (
        "{path: scenes}",
        "{path: scnes}",
        "x.yaml:4: data.init_args.path: 'scnes' does not exist; did you mean 'scenes'?",
    ),
    (
        "{path: scenes}",
        "{path: scenes, batchsize: 3}",
        "x.yaml:4: data.init_args.batchsize: unknown key of ShardData; did you mean 'batch_size'?",
    ),
    (
        "shards.ShardData",
        "shards.SharData",
        "x.yaml:3: data.class_path: gallery.shards has no class 'SharData'; did you mean 'ShardData'?",
    ),
    (
        "gallery.shards.ShardData",
        "gallery.shard.ShardData",
        "x.yaml:3: data.class_path: no module 'gallery.shard'; did you mean 'gallery.shards.ShardData'?",
    ),
    (
        "class_path: gallery.shards",
        "class_pth: g",
        "x.yaml:3: data.class_pth: unknown key; did you mean 'class_path'?",
    ),
    ("{width: 16}", "{width: a}", "x.yaml:12: encoders.0.init_args.width: expected int, got 'a'"),
    (
        "kind: sparse",
        "kind: spars",
        "x.yaml:9: levels.1.attention.kind: 'spars' is not one of 'full', 'sparse'; did you mean 'sparse'?",
    ),
    ("radius: 2", "radios: 2", "x.yaml:9: levels.1.attention.radios: unknown key; did you mean 'radius'?"),
    (
        "kind: full",
        "radius: 1",
        "x.yaml:7: levels.0.attention: missing required key 'kind'; set it to one of 'full', 'sparse'",
    ),
    ("  - depth: 3\n    att", "  - att", "x.yaml:8: levels.1: missing required key 'depth'"),
    (
        "max_steps: 50",
        "max_steps: ${trainer.warmup_step}",
        "x.yaml:14: trainer.max_steps: '${trainer.warmup_step}': Interpolation key 'trainer.warmup_step' not found; "
        "did you mean 'trainer.warmup_steps'?",
    ),
    (
        "name: small",
        "name: ${oc.env:UNSET_VARIABLE}",
        "x.yaml:1: name: '${oc.env:UNSET_VARIABLE}': Environment variable 'UNSET_VARIABLE' not found",
    ),
    ("max_steps: 50", "max_steps: ${seed}\nseed: ${trainer.max_steps}", "Recursive interpolation detected"),
    ("max_steps: 50", "max_steps: ${trainer}", "'${trainer}': Interpolation to parent node detected"),
    ("name: small", "name: ${sed", "x.yaml:1: name: not a valid value or interpolation: "),
    ("name: small", "name: ${sed:1}", "x.yaml:1: name: ${sed:...} is not supported"),
    ("name: small", "name: ???", "x.yaml:1: name: '???': Missing mandatory value: name"),
    (
        "max_steps: 50",
        "max_steps: 50\n  max_steps: 60",
        "x.yaml:15: not valid YAML: found duplicate key max_steps",
    ),
    (
        "  max_steps: 50",
        "\tmax_steps: 50",
        "x.yaml:14: not valid YAML: found character that cannot start any token; the line begins with a tab; "
        "indent it with spaces",
    ),
    ("{width: 16}", "{width: 16", "x.yaml:13: not valid YAML: did not find expected ',' or '}'"),
    (
        "{width: 16}",
        "{width: ${seed}}",
        "x.yaml:12: not valid YAML: did not find expected ',' or '}'; "
        "put an interpolation inside {...} or [...] in quotes",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), WRONG_FILE)
def test_invalid_file(file: Path, old: str, new: str, expected: str) -> None:
    line = message(edited(file, old, new))
    assert line == expected or (expected in line and not expected.endswith(("?", "'")))
    assert line.startswith("x.yaml")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("trainer.max_step=3", "trainer.max_step: unknown key; did you mean 'max_steps'?"),
        ("trainer.max_steps=ten", "trainer.max_steps: expected int, got 'ten'"),
        ("trainer.warmup_steps=51", "trainer: warmup_steps must not exceed max_steps"),
        ("trainre.max_steps=3", "trainre: unknown key; did you mean 'trainer'?"),
        ("--seed=3", "--seed: unknown key; did you mean 'seed'?"),
        ("seed.x=3", "seed.x: seed is 0, which has no keys"),
        ("levels.2.depth=3", "levels.2: levels is a list of 2 items, counted from 0"),
        ("levels.first.depth=3", "levels.first: levels is a list of 2 items, counted from 0"),
        ("levels[1].attention.kind=full", "levels.1.attention.radius: unknown key; valid: kind, heads"),
        (
            "encoders[0].init_args.widht=64",
            "encoders.0.init_args.widht: unknown key of Mlp; did you mean 'width'?",
        ),
        (
            "encoders.0.class_path=gallery.stages.Rates",
            "encoders.0.init_args.width: unknown key of Rates; valid: low, high",
        ),
        (
            "optimizer.init_args.params=[]",
            "optimizer.init_args.params: the program supplies this argument of AdamW",
        ),
        ("data.init_args.path=scene", "data.init_args.path: 'scene' does not exist; did you mean 'scenes'?"),
        (
            "seed=${trainer.max_step}",
            "seed: '${trainer.max_step}': Interpolation key 'trainer.max_step' not found; "
            "did you mean 'trainer.max_steps'?",
        ),
        ("trainer.max_steps=", "trainer.max_steps: expected int, got null"),
        ("levels=[1, 2", "levels: the value is not valid YAML: did not find expected ',' or ']'"),
        ("trainer", "not of the form key=value"),
        ("seed=017", "seed: YAML reads 017 as an octal number; write it in decimal, or put it in quotes if it is text"),
        ("seed=-0_7", "seed: YAML reads -0_7 as an octal number"),
        ("seed=1:30", "seed: YAML reads 1:30 as a base-60 number"),
        ("name=12:30:45.5", "name: YAML reads 12:30:45.5 as a base-60 number"),
        ("levels=[{depth: 010}]", "levels: YAML reads 010 as an octal number"),
        ("a b=3", "'a b' is not a valid key; use a dotted key such as levels.0.depth"),
        ("=3", "'' is not a valid key; use a dotted key such as levels.0.depth"),
    ],
)
def test_invalid_override(file: Path, override: str, problem: str) -> None:
    line = message(file, "levels.0.depth=1", override, "seed=0" if "seed" not in override else "name=x")
    assert line.startswith(f"command line ({override}): ")
    assert problem in line


def test_errors_in_the_file_name_the_file(file: Path) -> None:
    edited(edited(file, "name: small\n", ""), "max_steps: 50", "max_step: 50")
    assert message(file, "seed=1") == "x.yaml: missing required key 'name'"
    assert message(file, "name=x", "trainer.clip=1").startswith("x.yaml:13: trainer.max_step: unknown key")


def test_errors_name_the_override_that_causes_them(file: Path) -> None:
    replaced, wrong = "optimizer={class_path: torch.optim.SGD, init_args: {}}", "optimizer.init_args.lrr=3"
    assert message(file, replaced, wrong).startswith(f"command line ({wrong}): ")


def test_errors_in_an_incomplete_override_name_the_override(file: Path) -> None:
    wrong = "encoders.0={init_args: {width: 3}}"
    assert message(file, wrong, "seed=1") == f"command line ({wrong}): encoders.0: missing required key 'class_path'"


@dataclass(frozen=True)
class Judges:
    judges: dict[str, Component]


def test_nearest_entry_is_suggested_for_a_misspelled_override(file: Path) -> None:
    file.write_text("judges:\n  colors: {class_path: gallery.stages.Mlp, init_args: {width: 3}}\n")
    wrong = "judges.colours.init_args.width=4"
    with pytest.raises(ConfigError) as caught:
        load(file, [wrong], Judges)
    expected = "judges.colours: missing required key 'class_path'; did you mean 'colors'?"
    assert str(caught.value) == f"command line ({wrong}): {expected}"


def test_errors_in_a_section_that_an_override_changes_still_name_the_file(file: Path) -> None:
    edited(file, "max_steps: 50", "max_steps: 5")
    assert message(file, "trainer.clip=1", "seed=1") == "x.yaml:13: trainer: warmup_steps must not exceed max_steps"


def test_errors_through_an_interpolation_name_the_override(file: Path) -> None:
    edited(file, "max_steps: 50", "precision: ${name}")
    assert message(file, "name=bf16-mixe").startswith("command line (name=bf16-mixe): trainer.precision: 'bf16-mixe'")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("set #1", "set #1"),
        ("#1", "#1"),
        ("set#1", "set#1"),
        ("it's #1 and that's it", "it's #1 and that's it"),
        ("'set #1'", "set #1"),
        ('"set #1"', "set #1"),
        ("set #${seed}", "set #0"),
        ("a: b #1", "a: b #1"),
    ],
)
def test_overrides_do_not_contain_comments(file: Path, value: str, expected: str) -> None:
    assert load(file, [f"name={value}"], Run).config.name == expected


@pytest.mark.parametrize("value", ["[a, b] # c", "{a: b #1}", "'a' #1", "[a #1, b]"])
def test_text_that_yaml_would_drop_as_a_comment_is_an_error(file: Path, value: str) -> None:
    assert "name: the value is not valid YAML: ' #' begins a comment" in message(file, f"name={value}")


def test_number_followed_by_a_comment_is_a_string(file: Path) -> None:
    assert message(file, "seed=3 # three").endswith("seed: expected int, got '3 # three'")


@pytest.mark.parametrize(("value", "expected"), [("0", 0), ("00", 0), ("1_000", 1000), ("0x1F", 31)])
def test_numbers_that_yaml_reads_as_they_look_are_accepted(file: Path, value: str, expected: int) -> None:
    assert load(file, [f"seed={value}"], Run).config.seed == expected


@pytest.mark.parametrize("value", ['"017"', "'1:30'", "1:30 pm", "127.0.0.1:5000"])
def test_text_that_contains_such_a_number_is_accepted(file: Path, value: str) -> None:
    assert load(file, [f"name={value}"], Run).config.name == value.strip("\"'")


def test_structure_is_checked_before_any_class_is_imported(file: Path) -> None:
    edited(file, "gallery.shards.ShardData", "gallery.unimportable.ShardData")
    assert "data.class_path: gallery.unimportable.ShardData: cannot be imported" in message(file)
    assert load(file, [], Run, classes=False).config.data.init_args == {"path": "scenes"}
    assert message(edited(file, "max_steps: 50", "max_step: 50")).startswith("x.yaml:14: trainer.max_step")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "y.yaml: the file is empty"),
        (b"# nothing\n", "y.yaml: the file is empty"),
        (b"\n- a\n", "y.yaml:2: the top level must be a mapping of keys to values"),
        (b"text\n", "y.yaml:1: the top level must be a mapping of keys to values"),
        (b"\xff\xfe\x00", "y.yaml: cannot be read: 'utf-8' codec can't decode byte 0xff in position 0"),
        (b"a: 1\n---\nb: 2\n", "y.yaml:2: not valid YAML: but found another document"),
        (b"a: !!python/object:os.system x\n", "y.yaml:1: not valid YAML: could not determine a constructor"),
        (b"a: &x [*x]\n", "y.yaml: not valid YAML: an alias contains itself"),
        (b"1: 2\n", "y.yaml:1: 1: unknown key"),
        (b"a: 1\nb: [2, 017]\n", "y.yaml:2: YAML reads 017 as an octal number"),
        (b"a:\n  b: 1:30\n", "y.yaml:2: YAML reads 1:30 as a base-60 number"),
    ],
)
def test_invalid_yaml_is_an_error(file: Path, content: bytes, expected: str) -> None:
    Path("y.yaml").write_bytes(content)
    assert message(Path("y.yaml")).startswith(expected)


def test_nearest_file_is_suggested(file: Path) -> None:
    Path("runs.d").mkdir()
    Path("runs.d/elastic.yaml").touch()
    assert (
        message(Path("runs.d/elstic.yaml")) == "runs.d/elstic.yaml: no such file; did you mean 'runs.d/elastic.yaml'?"
    )
    assert message(Path("runs.d/elastic")) == "runs.d/elastic: no such file; did you mean 'runs.d/elastic.yaml'?"
    assert message(Path("nowhere/z.yaml")) == "nowhere/z.yaml: no such file"
    assert message(Path("runs.d")).startswith("runs.d: no such file")


def test_errors_are_fast_and_do_not_import_libraries(file: Path) -> None:
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent / "sources")!r})
from pathlib import Path
from pocketdit.config.load import load
from pocketdit.config.experiment import Experiment
from pocketdit.errors import ConfigError
try:
    load(Path("x.yaml"), [], Experiment)
except ConfigError as error:
    print(error)
assert not {{"torch", "lightning", "numpy", "mlflow"}} & set(sys.modules)
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert re.match(r"x.yaml:1: name: unknown key", done.stdout), done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The limit applies to CPU time, because other processes may be running.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
