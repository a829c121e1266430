"""A judge for pictogram compositions. Its rules recognize OpenMoji's pictograms by their pixels."""
