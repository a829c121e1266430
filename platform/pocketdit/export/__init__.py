"""Export of networks to Core ML and LiteRT."""
