"""A study's best trial, written as an experiment of its own."""
