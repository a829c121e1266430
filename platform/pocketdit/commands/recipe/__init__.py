"""Recipes, each of which runs experiments, evaluations and exports that depend on each other with one command."""
