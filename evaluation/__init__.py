"""Evaluation: subjects, prompt sets, metrics, judges and reports."""
