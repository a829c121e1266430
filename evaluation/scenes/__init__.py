"""Evaluation on rendered scenes, with prompts, judges and encoders that need no downloads."""
