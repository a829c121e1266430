"""Executes a training run: builds its parts, trains, saves checkpoints, and resumes."""
