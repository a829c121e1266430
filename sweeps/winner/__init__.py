"""Writes a study's best trial as a standalone experiment."""
