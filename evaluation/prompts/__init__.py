"""Prompt sets: the published benchmarks, rendered scenes, and files of the user."""
