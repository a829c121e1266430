"""Studies of architectures and hyperparameters with Optuna."""
