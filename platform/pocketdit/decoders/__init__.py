"""Tiny decoders that replace an autoencoder's decoder, and the models used to train them."""
