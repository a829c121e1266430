"""Benchmarks: each script measures a ratio of two things side by side in one run."""
