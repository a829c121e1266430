"""Mixed-precision palettization of network weights: k-means palettes, sensitivities, and bit allocation."""
