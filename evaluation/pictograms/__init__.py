"""A judge of compositions of pictograms, whose rules recognize OpenMoji's pictograms by their pixels."""
