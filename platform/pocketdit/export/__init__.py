"""Export of trained networks to the formats of phones."""
