"""Compositions of OpenMoji pictograms: the catalog, random generation, captions, and rendering."""
