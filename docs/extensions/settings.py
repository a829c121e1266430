"""The ``settings`` directive, which lists the keys of a configuration section or the arguments of a component class."""

import importlib
import inspect
import re
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

import yaml  # type: ignore[import-untyped]
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pocketdit.config.component import Component, arguments
from pocketdit.config.typed import plain

NAMES = {
    "NoneType": "null",
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "Path": "path",
}
PLURALS = ("text", "whole number", "number", "path", "section", "mapping")


class Settings(SphinxDirective):
    """Lists the constructor arguments of a class. The arguments of a dataclass are its fields.

    Usage: ``.. settings:: package.module.Class`` with the option ``:prefix: training``. The option ``:supplied:`` names
    arguments that the program supplies, which are not listed.
    """

    required_arguments = 1
    option_spec: ClassVar = {"prefix": directives.unchanged, "supplied": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Return a definition list with one entry per argument."""
        module, _, name = self.arguments[0].rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        documentation, prefix = documented(cls), f"{self.options['prefix']}." if "prefix" in self.options else ""
        entries = nodes.definition_list()
        for parameter in arguments(cls)[0].values():
            if parameter.name in self.options.get("supplied", "").split():
                continue
            text = documentation.get(parameter.name) or summary(parameter.name, parameter.annotation)
            if not text:
                raise self.error(f"{self.arguments[0]} does not document {parameter.name}")
            term = nodes.term("", "", nodes.literal(text=prefix + parameter.name))
            term += nodes.Text(f"  {describe(parameter.annotation)}{default(cls, parameter)}")
            body, messages = self.parse_inline(text.replace("``", "`"))
            entry = nodes.definition("", nodes.paragraph("", "", *body, *messages))
            entries += nodes.definition_list_item("", term, entry)
        return [entries]


def documented(cls: type) -> dict[str, str]:
    """Return each argument's description from the ``Args:`` and ``Attributes:`` sections of a class and its bases."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for section in re.findall(r"^(?:Args|Attributes):\n((?:(?: {4}.*)?\n?)+)", inspect.getdoc(base) or "", re.M):
            for name, text in re.findall(r"^ {4}(\w+): ((?:.*\n?)(?: {8}.*\n?)*)", section, re.M):
                texts[name] = " ".join(text.split())
    return texts


def summary(name: str, annotation: Any) -> str:
    """Describe a section by the first line of its class's docstring, and every ``kind`` key by the same sentence."""
    if name == "kind":
        return "Selects this kind of section."
    section = next((cls for cls in (annotation, *get_args(annotation)) if is_dataclass(cls)), None)
    return (inspect.getdoc(section) or "").partition("\n")[0] if section else ""


def describe(annotation: Any) -> str:
    """Describe the YAML values that a type accepts."""
    args = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return describe(args[0])
    if annotation is Component or getattr(annotation, "_is_protocol", False):
        return "class_path and init_args"
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, args))
    if is_dataclass(annotation):
        return "section"
    if get_origin(annotation) in (list, tuple, Sequence):
        return describe_list(describe(args[0])) if len(set(args) - {...}) == 1 else "list"
    if get_origin(annotation) is dict:
        return "mapping"
    if args:
        return " or ".join(dict.fromkeys(map(describe, args)))
    name = getattr(annotation, "__name__", str(annotation))
    return NAMES.get(name, name)


def describe_list(item: str) -> str:
    """Describe a list, given the description of its items."""
    return f"list of {item}s" if item in PLURALS else f"list, each {item}"


def default(cls: type, parameter: inspect.Parameter) -> str:
    """Return the end of an entry's heading, such as ``, required`` or ``, default 3``."""
    if parameter.default is inspect.Parameter.empty:
        return ", required"
    if is_dataclass(cls) and any(f.name == parameter.name and f.default_factory is not MISSING for f in fields(cls)):
        return ""
    value = yaml.safe_dump(plain(parameter.default), default_flow_style=True).removesuffix("\n").removesuffix("\n...")
    return f", default {value}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive with Sphinx."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
