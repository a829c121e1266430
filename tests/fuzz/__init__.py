"""Fuzzers, which damage inputs at random from a seed and check that each is handled properly. Run by make fuzz."""
