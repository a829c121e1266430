"""Execution of a training run: building its parts, training, checkpointing, and resuming."""
