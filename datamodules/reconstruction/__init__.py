"""Images for training and testing a small autoencoder: pictograms, compositions, and crops of photographs."""
