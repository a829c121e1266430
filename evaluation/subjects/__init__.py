"""Subjects: what an evaluation scores."""
