"""The metrics that an experiment logs at validation, read from its stage's source: no module is imported."""

import ast
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from pocketdit.config.errors import nearest
from pocketdit.config.experiment import Experiment
from pocketdit.config.source import find_class, locate

Curves = Mapping[str, Sequence[tuple[int, float]]]


def logged(experiment: Experiment) -> list[str]:
    """Names that ``validation_step`` of the stage (or the nearest class that it inherits it from) logs, for every
    width; a star stands for a part that only the run knows."""
    names = []
    for node in ast.walk(_validation_step(experiment.stage.class_path) or ast.Module([], [])):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr="log"), args=[name, *_]):
                names += [_text(name, width) for width in experiment.backbone.widths]
    return list(dict.fromkeys(names))


def _validation_step(class_path: str) -> ast.FunctionDef | None:
    module, node = find_class(class_path)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "validation_step":
            return item
    for base in node.bases:
        found = locate(module.dotted(base))
        if found and isinstance(found[1], ast.ClassDef) and not found[0].name.startswith("lightning"):
            return _validation_step(f"{found[0].name}.{found[1].name}")
    return None


def _text(node: ast.expr, width: float) -> str:
    """The name that a string or f-string stands for at a width."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, width) for part in parts)
        case ast.FormattedValue(value=ast.Name(id="width")):
            return f"{width:g}"
        case _:
            return "*"


def unknown(metric: str, experiment: Experiment) -> str | None:
    """Why an objective's metric is none of the experiment's, with the nearest; None where it is one."""
    names = logged(experiment)
    if any(fnmatchcase(metric, name) or fnmatchcase(name, metric) for name in names):
        return None
    stage = experiment.stage.class_path.rpartition(".")[2]
    if not names:
        return f"{stage} logs no metric at validation; take kind: scored"
    near = nearest(metric, names)
    totals = [name for name in names if "*" not in name] or names
    return f"{stage} logs no {metric!r}; " + (f"did you mean {near!r}?" if near else f"it logs {', '.join(totals)}")


def value_at(metric: str, curves: Curves, steps: int) -> float:
    """A metric's value after ``steps`` optimizer steps; with a star in its name the mean of all that it fits.

    Raises ``KeyError`` where it was not logged then.
    """
    # A journal counts steps from 0.
    return value_of(metric, {name: value for name, curve in curves.items() for at, value in curve if at == steps - 1})


def value_of(metric: str, values: Mapping[str, float]) -> float:
    """The same from the values of one moment."""
    found = [value for name, value in values.items() if fnmatchcase(name, metric)]
    if not found:
        raise KeyError(metric)
    return sum(found) / len(found)
