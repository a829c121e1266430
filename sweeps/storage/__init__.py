"""A study's trials in Optuna's storage, and their results."""
