"""The layouts that are read, and how they are recognized."""

from pathlib import Path
from typing import Literal, assert_never

from datamodules.imports.entries import Plan, ReadOptions
from datamodules.imports.image_folder import ImageFolder, plan_image_folder
from datamodules.shards.sources import list_folder
from pocketdit.errors import UserError

LayoutName = Literal["folder"]
Layout = ImageFolder


def find_layout(source: Path, name: LayoutName | None, exclude: Path | None = None) -> Layout:
    """Return the layout of a source.

    Raises:
        UserError: The source does not exist.
    """
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    return ImageFolder(list_folder(source, exclude))


def plan_layout(layout: Layout, options: ReadOptions) -> Plan:
    """Plan how to read a source."""
    match layout:
        case ImageFolder():
            return plan_image_folder(layout, options)
        case _:
            assert_never(layout)
