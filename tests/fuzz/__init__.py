"""Fuzzers, run by ``make fuzz``. They damage inputs at random from a seed and check that each is handled properly."""
