"""Judges: networks and rules that metrics query about images and texts."""
