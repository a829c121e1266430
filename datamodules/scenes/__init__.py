"""Embedded data: scenes of coloured shapes with captions, drawn by the project itself."""
