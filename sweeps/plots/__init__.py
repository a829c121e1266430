"""Plots of a study, static and interactive, and Optuna's dashboard."""
