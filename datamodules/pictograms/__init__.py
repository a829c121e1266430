"""Scenes of OpenMoji pictograms: the catalog, random compositions, their captions, and their rendering."""
