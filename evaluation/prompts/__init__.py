"""Prompt sets: the published benchmarks, rendered scenes, and users' own files."""
