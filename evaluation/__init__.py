"""Evaluation of text-to-image models: subjects, prompt sets, metrics, judges and reports."""
