"""The paper's tables of scores (arXiv 2601.08303, supplement, Tables 2 to 4; Table 2 of the main text).

The values are those printed in the paper and were not measured here. The main text and the supplement disagree about
SD3-Medium (84.1 and 85.1 on DPG-Bench, 0.68 and 0.62 on GenEval); both values are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        title: Title of the table.
        metric: Benchmark whose results belong in the table; "" for the summary of all benchmarks.
        columns: Mapping from column headings to the names of scores.
        rows: Mapping from models to the paper's values, in the order of the columns.
    """

    title: str
    metric: str
    columns: Mapping[str, str]
    rows: Mapping[str, tuple[float, ...]]


DPG = Table(
    "DPG-Bench",
    "dpg",
    {
        "Global": "L1/global", "Entity": "L1/entity", "Attribute": "L1/attribute", "Relation": "L1/relation",
        "Other": "L1/other", "Overall": "overall",
    },
    {
        "SnapGen 0.4B": (88.3, 85.1, 87.0, 87.3, 87.6, 81.1),
        "PixArt-alpha 0.6B": (75.0, 79.3, 78.6, 82.6, 77.0, 71.1),
        "PixArt-Sigma 0.6B": (86.9, 82.9, 88.9, 86.6, 87.7, 80.5),
        "SANA 1.6B": (86.0, 91.5, 88.9, 91.9, 90.7, 84.8),
        "LUMINA-Next 2.0B": (82.8, 88.7, 86.4, 80.5, 81.8, 74.6),
        "SD3-Medium 2.0B": (83.5, 89.6, 86.7, 93.2, 92.5, 85.1),
        "SDXL 2.6B": (83.3, 82.4, 80.9, 86.8, 80.4, 74.7),
        "Playground v2.5 2.6B": (83.1, 82.6, 81.2, 84.1, 83.5, 75.5),
        "IF-XL 5.5B": (77.7, 81.2, 83.3, 81.8, 82.9, 75.6),
        "SD3.5-Large 8.1B": (87.4, 92.1, 90.0, 88.2, 88.1, 85.6),
        "FLUX.1-dev 12B": (74.4, 90.0, 89.9, 90.9, 88.3, 83.8),
        "HiDream-I1-Full 17B": (76.4, 90.2, 89.5, 93.7, 91.8, 85.9),
        "Qwen-Image 20B": (91.3, 91.6, 92.0, 94.3, 92.7, 88.3),
        "SnapGen++ tiny 0.3B": (88.5, 90.2, 88.8, 92.6, 78.8, 84.6),
        "SnapGen++ small 0.4B": (84.2, 90.9, 89.0, 93.1, 79.6, 85.2),
        "SnapGen++ full 1.6B": (85.7, 91.5, 89.6, 94.5, 80.4, 87.2),
    },
)  # fmt: skip

GENEVAL = Table(
    "GenEval",
    "geneval",
    {
        "Single": "single_object", "Two": "two_object", "Counting": "counting", "Colors": "colors",
        "Position": "position", "Color attr.": "color_attr", "Overall": "overall",
    },
    {
        "SnapGen 0.4B": (1.00, 0.84, 0.60, 0.88, 0.18, 0.45, 0.66),
        "PixArt-alpha 0.6B": (0.98, 0.50, 0.44, 0.80, 0.08, 0.07, 0.48),
        "PixArt-Sigma 0.6B": (0.99, 0.65, 0.46, 0.82, 0.12, 0.12, 0.53),
        "SANA 1.6B": (0.99, 0.77, 0.62, 0.88, 0.21, 0.47, 0.66),
        "LUMINA-Next 2.0B": (0.92, 0.46, 0.48, 0.70, 0.09, 0.13, 0.46),
        "SD3-Medium 2.0B": (0.98, 0.74, 0.63, 0.67, 0.34, 0.36, 0.62),
        "SDXL 2.6B": (0.98, 0.74, 0.39, 0.85, 0.15, 0.23, 0.55),
        "Playground v2.5 2.6B": (0.98, 0.77, 0.52, 0.84, 0.11, 0.17, 0.56),
        "IF-XL 5.5B": (0.97, 0.74, 0.66, 0.81, 0.13, 0.35, 0.61),
        "SD3.5-Large 8.1B": (0.98, 0.89, 0.73, 0.83, 0.34, 0.47, 0.71),
        "FLUX.1-dev 12B": (0.98, 0.81, 0.74, 0.79, 0.22, 0.45, 0.66),
        "HiDream-I1-Full 17B": (1.00, 0.98, 0.79, 0.91, 0.60, 0.72, 0.83),
        "Qwen-Image 20B": (0.99, 0.92, 0.89, 0.88, 0.76, 0.77, 0.87),
        "SnapGen++ tiny 0.3B": (1.00, 0.91, 0.62, 0.85, 0.26, 0.56, 0.69),
        "SnapGen++ small 0.4B": (1.00, 0.91, 0.64, 0.89, 0.22, 0.55, 0.70),
        "SnapGen++ full 1.6B": (1.00, 0.97, 0.66, 0.90, 0.32, 0.70, 0.76),
    },
)  # fmt: skip

COMPBENCH = Table(
    "T2I-CompBench",
    "t2i-compbench",
    {
        "Color": "color", "Complex": "complex", "Non-spatial": "non_spatial", "Shape": "shape", "Spatial": "spatial",
        "Texture": "texture", "Overall": "overall",
    },
    {
        "PixArt-alpha 0.6B": (0.416, 0.334, 0.308, 0.389, 0.197, 0.461, 0.351),
        "PixArt-Sigma 0.6B": (0.585, 0.380, 0.309, 0.479, 0.244, 0.566, 0.427),
        "SANA 1.6B": (0.660, 0.377, 0.312, 0.529, 0.322, 0.652, 0.476),
        "LUMINA-Next 2.0B": (0.511, 0.350, 0.303, 0.333, 0.185, 0.438, 0.353),
        "SD3-Medium 2.0B": (0.794, 0.384, 0.315, 0.582, 0.324, 0.731, 0.522),
        "SDXL 2.6B": (0.570, 0.331, 0.311, 0.481, 0.199, 0.520, 0.402),
        "Playground v2.5 2.6B": (0.644, 0.364, 0.308, 0.486, 0.217, 0.607, 0.437),
        "IF-XL 5.5B": (0.591, 0.354, 0.311, 0.512, 0.182, 0.577, 0.421),
        "SD3.5-Large 8.1B": (0.768, 0.382, 0.316, 0.591, 0.275, 0.712, 0.507),
        "FLUX.1-dev 12B": (0.764, 0.374, 0.307, 0.501, 0.253, 0.627, 0.471),
        "HiDream-I1-Full 17B": (0.749, 0.401, 0.314, 0.592, 0.399, 0.696, 0.525),
        "Qwen-Image 20B": (0.836, 0.399, 0.317, 0.605, 0.443, 0.743, 0.557),
        "SnapGen++ tiny 0.3B": (0.765, 0.372, 0.316, 0.545, 0.331, 0.680, 0.502),
        "SnapGen++ small 0.4B": (0.770, 0.370, 0.316, 0.551, 0.350, 0.679, 0.506),
        "SnapGen++ full 1.6B": (0.794, 0.375, 0.316, 0.600, 0.419, 0.712, 0.536),
    },
)  # fmt: skip

SUMMARY = Table(
    "Summary (the paper's Table 2)",
    "",
    {"DPG": "dpg", "GenEval": "geneval", "T2I-C.B.": "t2i-compbench", "CLIP (COCO)": "clip-score"},
    {
        "SnapGen 0.4B": (81.1, 0.66, float("nan"), 0.332),
        "PixArt-alpha 0.6B": (71.1, 0.48, 0.351, 0.316),
        "PixArt-Sigma 0.6B": (80.5, 0.53, 0.427, 0.317),
        "SANA 1.6B": (84.8, 0.66, 0.476, 0.327),
        "LUMINA-Next 2.0B": (74.6, 0.46, 0.353, 0.309),
        "SD3-Medium 2.0B": (84.1, 0.68, 0.522, 0.323),
        "SDXL 2.6B": (74.7, 0.55, 0.402, 0.301),
        "Playground v2.5 2.6B": (75.5, 0.56, 0.237, 0.319),
        "IF-XL 5.5B": (75.6, 0.61, 0.421, 0.311),
        "SD3.5-Large 8.1B": (85.6, 0.71, 0.507, 0.326),
        "FLUX.1-dev 12B": (83.8, 0.66, 0.471, 0.316),
        "SnapGen++ tiny 0.3B": (84.6, 0.69, 0.502, 0.330),
        "SnapGen++ small 0.4B": (85.2, 0.70, 0.506, 0.332),
        "SnapGen++ full 1.6B": (87.2, 0.76, 0.536, 0.338),
    },
)

TABLES = (SUMMARY, DPG, GENEVAL, COMPBENCH)
