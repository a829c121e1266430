"""Names of the files and Core ML packages in an export bundle."""

MANIFEST = "manifest.json"
"""What an app needs to know. A folder with this file is an export bundle."""

CENSUS = "census.json"
"""The cost of every operation in the transformer's graph (Core ML only)."""

LATENCY = "latency.jsonl"
"""Predicted and measured latencies, one record per line."""

TRANSFORMER, TEXT_PROJECTION, DECODER = "transformer", "text_projection", "decoder"
"""Core ML packages; each is a folder with the suffix ``.mlpackage``."""

TFLITE = "network.tflite"
"""The LiteRT model."""
