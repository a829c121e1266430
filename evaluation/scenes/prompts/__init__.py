"""Prompts about scenes, in the forms of published benchmarks, and the questions that they answer."""
