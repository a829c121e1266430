"""Benchmarks. Each script measures two alternatives side by side in one run and reports their ratio."""
