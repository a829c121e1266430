"""Static and interactive plots of a study, and Optuna's dashboard."""
