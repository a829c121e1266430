"""Runs a study: queues trials, keeps workers busy, and trains each trial."""
