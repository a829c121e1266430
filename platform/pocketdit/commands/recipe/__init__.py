"""Recipes. With one command, a recipe runs experiments, evaluations and exports that depend on each other."""
