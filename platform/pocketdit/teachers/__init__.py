"""Frozen larger networks that a student learns from."""
