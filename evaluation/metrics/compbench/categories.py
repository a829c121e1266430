"""The categories of T2I-CompBench (Huang et al. 2023, arXiv 2307.06350), including numeracy, added in version 3."""

from typing import Literal, get_args

BENCHMARK = "t2i-compbench"

Category = Literal["color", "shape", "texture", "spatial", "non_spatial", "complex", "numeracy"]
CATEGORIES: tuple[Category, ...] = get_args(Category)

# The columns of Table 4 in the SnapGen++ paper. The overall score is their mean.
COLUMNS: tuple[Category, ...] = ("color", "complex", "non_spatial", "shape", "spatial", "texture")


def prompt_set_name(category: str) -> str:
    """Return the name of a category's prompt set, such as "t2i-compbench-color"."""
    return f"{BENCHMARK}-{category}"
