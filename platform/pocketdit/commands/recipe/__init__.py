"""Recipes: experiments, evaluations and exports that depend on each other, run by one command."""
