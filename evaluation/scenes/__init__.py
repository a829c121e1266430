"""Evaluation on rendered scenes: prompts, judges and encoders that need no download."""
