"""Values, strings, and keys that are easily mishandled in configurations."""

import math
from typing import Any

NUMBERS = (
    0, 1, -1, 2, 3, 7, 0.5, 1.0, -0.5, 1e-300, 1e300, 2**31, 2**63 - 1, 2**63, -(2**63), 10**40, 1e9, 65536, 1e-9,
)  # fmt: skip
TEXTS = (
    "", "x", "a b", "3", "0.5", "true", "null", "auto", "cpu", "latest", "../..", "/etc/passwd", "~", "~/x", "a/b",
    "café", "模型", "😀", "e\u0301", "\u202eabc", "\u200b", "a\tb", "a\nb", "it's", 'a "b"', "a: b", "a #1", "# a",
    "- a", "[a", "{a", "&a", "*a", "!a", "%a", "@a", "`a`", "a\\b", "${", "x" * 300, "x" * 5000, "-1", "--plan",
    "a=b", "<<", "=",
)  # fmt: skip
# YAML that is easily misread, with the value that it must have in a configuration.
ODD_TEXTS: dict[str, Any] = {
    "0x1F": 31, "1_000": 1000, "1e3": 1000.0, "1E-3": 0.001, ".5": 0.5, "5.": 5.0, "+1": 1, "1.": 1.0, "-0.0": 0.0,
    ".inf": math.inf, "-.inf": -math.inf, "1e400": math.inf, "~": None, "null": None, "Null": None, "true": True,
    "TRUE": True, "False": False, '"3"': "3", "'3'": "3", "!!str 1": "1", '!!int "3"': 3, "!!float 1": 1.0,
    "2020-01-01": "2020-01-01", "[1,]": [1], "[]": [], "{}": {}, "- 1\n- 2": [1, 2], '"\\x1b[2J"': "\x1b[2J",
    "'it''s'": "it's", "x #y": "x #y", "x#y": "x#y", "# x": "# x", "a:b": "a:b", "a, b": "a, b", "a\nb": "a\nb",
    "3 4": "3 4", "😀": "😀", "???": "???", "nan": "nan", "--- 1": 1, "&a 1": 1, "[&a 1, *a]": [1, 1],
    "{<<: {a: 1}}": {"a": 1}, "{? a}": {"a": None}, "0o17": "0o17", "1e": "1e",
}  # fmt: skip
# YAML that is invalid, or whose value a configuration cannot contain.
BROKEN_TEXTS = (
    "[", "{", "]", "}", '"', "'", "[1,2", "{a: 1, a: 2}", "{a: 1", "%YAML 1.1", "...", "---", "@x", "`x`", "*a",
    "&a [*a]", "!x 1", "!!python/object/apply:os.system [id]", "!!python/name:os.system", "!!set {a}",
    "!!binary aGk=", "<<", "?", ":", ">", "|", "\t", "\x00", "\x7f", "\x9b", "\ufeff", "\ud83d", '"\\ud800"',
    '"\\u0000"', ".nan", "{[1]: 2}", "{1: 2}", "{null: 1}", "{1.5: a}", "[" * 60 + "]" * 60, "[" * 5000,
    "{a: " * 200 + "1" + "}" * 200, "1" * 5000, "9" * 400, "-" * 1000, "a" * 1_000_001, "[a" + ", a" * 50_000 + "]",
)  # fmt: skip
INTERPOLATIONS = (
    "${missing}", "${", "${}", "${seed", "$${seed}", "\\${seed}", "${oc.env:FUZZ_MISSING}",
    "${oc.env:FUZZ_MISSING,3}", "${oc.env:FUZZ_NUMBER}", "${oc.create:[1]}", '${oc.decode:"3"}', "${oc.select:seed}",
    "${.seed}", "${..seed}", "${[0]}", "${a[${b}]}", "${seed}${seed}", "${${seed}}", "${oc.dict.keys:training}",
    "${unknown:1}", "${seed:1}", "x${seed}", "${oc.env:}", "${oc.env:HOME,${seed}}", "${'seed'}", "[${seed}]",
    '["${seed}"]', "{a: ${seed}}", "${  seed  }", "${seed}" * 1000, "${" * 500 + "}" * 500,
)  # fmt: skip
CLASS_PATHS = (
    "os.system", "subprocess.Popen", "builtins.eval", "builtins.object", "pocketdit", "pocketdit.", ".", "..", ".a",
    "a.b.c", "torch.optim.AdamW", "torch.optim.LBFGS", "torch.nn.Linear", "torch.optim.Optimizer",
    "pocketdit.encoders.dct.DCTAutoencoder", "pocketdit.encoders.dct.math", "pocketdit.encoders.dct.torch.nn.Module",
    "pocketdit.commands.main.main", "pocketdit.commands.main.Version", "__main__.Case", "pocketdit.errors.UserError",
    "datamodules.shards.module.ShardDataModule", "datamodules.shards.module.Path", "pocketdit.nothing.X",
    "pocketdit.encoders.hashed_text.WordEncoder", "pocketdit.encoders.contract.Autoencoder",
    "pocketdit.stages.elastic_pretrain.ElasticPretrain", "pocketdit.training.muon.MuonAdamW", "sweeps.settings.Sweep",
    "evaluation.metrics.scene_accuracy.SceneAccuracy", "evaluation.subjects.run.Run",
    "pocketdit.encoders.dct.DCTAutoencoder()", "pocketdit.encoders.dct:DCTAutoencoder",
    "pocketdit/encoders/dct.DCTAutoencoder", "pocketdit.😀.X", "pocketdit.encoders.dct.dctautoencoder",
    "pocketdit..encoders.X", " pocketdit.encoders.dct.DCTAutoencoder", "ctypes.CDLL", "importlib.import_module",
    "pocketdit.sampling.sample", "pocketdit.__class__", "pocketdit.config.importing.import_class", "site.X", "this.X",
    "antigravity.X",
)  # fmt: skip
ODD_KEYS = (
    "", ".", "..", "a..b", ".seed", "seed.", "__class__", "__init__", "a b", "-x", "--plan", "=", "==", "😀", "模型",
    "\u202eseed", "\x00", "seed\n", "levels[-1]", "[0]", "[", "]", "x[", "0", "-1", "None", "true", "a" * 2000,
    ".".join("a" * 300), "${seed}", "seed ", " seed", "SEED", "seed[0]",
)  # fmt: skip
