"""The directive ``settings``: the keys of a configuration dataclass, with their types, defaults and documentation."""

import importlib
import inspect
import re
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pocketdit.config.component import Component

NAMES = {"NoneType": "null", "str": "text", "int": "whole number", "float": "number", "bool": "true or false"}


class Settings(SphinxDirective):
    """Lists the keys of a dataclass: ``.. settings:: package.module.Class`` with ``:prefix: training``."""

    required_arguments = 1
    option_spec: ClassVar = {"prefix": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Return a definition list with one entry per field."""
        module, _, name = self.arguments[0].rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        hints, documentation = get_type_hints(cls, include_extras=False), attributes(cls)
        prefix = f"{self.options['prefix']}." if "prefix" in self.options else ""
        entries = nodes.definition_list()
        for field in fields(cls):
            text = documentation.get(field.name) or summary(field.name, hints[field.name])
            if not text:
                raise self.error(f"{self.arguments[0]} does not document {field.name}")
            term = nodes.term("", "", nodes.literal(text=prefix + field.name))
            term += nodes.Text(f"  {describe(hints[field.name])}{default(field)}")
            body, messages = self.parse_inline(text.replace("``", "`"))
            entry = nodes.definition("", nodes.paragraph("", "", *body, *messages))
            entries += nodes.definition_list_item("", term, entry)
        return [entries]


def attributes(cls: type) -> dict[str, str]:
    """Return the ``Attributes:`` sections of a class and its bases, by attribute."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = re.search(r"^Attributes:\n((?:(?: {4}.*)?\n?)+)", inspect.getdoc(base) or "", re.M)
        for name, text in re.findall(r"^ {4}(\w+): ((?:.*\n?)(?: {8}.*\n?)*)", section[1] if section else "", re.M):
            found[name] = " ".join(text.split())
    return found


def summary(name: str, annotation: Any) -> str:
    """Describe a section by the first line of its class, and a tag by what all tags do."""
    if name == "kind":
        return "Selects this kind of section."
    section = next((cls for cls in (annotation, *get_args(annotation)) if is_dataclass(cls)), None)
    return (inspect.getdoc(section) or "").partition("\n")[0] if section else ""


def describe(annotation: Any) -> str:
    """Describe the YAML values of a type."""
    args = get_args(annotation)
    if annotation is Component or get_origin(annotation) is Component:
        return "class_path and init_args"
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, args))
    if is_dataclass(annotation):
        return "section"
    if get_origin(annotation) in (list, tuple, Sequence):
        return f"list of {describe(args[0])}" if len(set(args) - {...}) == 1 else "list"
    if get_origin(annotation) is dict:
        return "mapping"
    if args:
        return " or ".join(map(describe, args))
    name = getattr(annotation, "__name__", str(annotation))
    return NAMES.get(name, name)


def default(field: "Field[Any]") -> str:
    """Return the end of an entry's heading."""
    if field.default is not MISSING:
        return f", default {'null' if field.default is None else field.default!r}"
    return "" if field.default_factory is not MISSING else ", required"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
