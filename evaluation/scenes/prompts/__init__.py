"""Prompts about scenes in the formats of published benchmarks, and questions about their images."""
