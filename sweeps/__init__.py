"""Architecture and hyperparameter studies with Optuna."""
