"""Experiment tracking: a journal in the run folder and a copy of it in MLflow."""
