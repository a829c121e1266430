"""The report of a recipe: one HTML page with its images, curves, scores, costs and lineage."""
