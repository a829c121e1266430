"""Configuration of the documentation site, which `make docs` builds with Sphinx into docs/_build."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "PocketDiT"
author = "the PocketDiT authors"
copyright = "the PocketDiT authors"
version = release = installed_version("pocketdit")

extensions = ["myst_parser", "sphinxarg.ext", "mathml", "settings"]
exclude_patterns = ["_build"]
suppress_warnings = ["myst.header"]  # the included log and change log begin with second-level headings
nitpicky = True

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
highlight_language = "bash"
html_math_renderer = "mathml"

html_theme = "furo"
html_title = f"PocketDiT {version}"
html_copy_source = False
html_show_sphinx = False
html_static_path: list[str] = []
html_theme_options: dict[str, object] = {"footer_icons": []}
