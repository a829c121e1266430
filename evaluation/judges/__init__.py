"""Judges: the networks and rules that metrics ask about images and texts."""
