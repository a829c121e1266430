"""Export of networks to Core ML, Core AI and LiteRT."""
