"""Names of the files and Core ML packages in an export bundle."""

MANIFEST = "manifest.json"
"""The information that an app needs. A folder that contains this file is an export bundle."""

CENSUS = "census.json"
"""The cost of each operation in the graph of the transformer (Core ML only)."""

LATENCY = "latency.jsonl"
"""Predicted and measured latencies, one record per line."""

TRANSFORMER, TEXT_PROJECTION, DECODER = "transformer", "text_projection", "decoder"
"""Names of the Core ML packages, which are folders with the suffix ``.mlpackage``."""

TFLITE = "network.tflite"
"""The LiteRT model."""
