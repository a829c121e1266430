"""Fuzzers, which damage inputs at random and check that each is handled properly. ``make fuzz`` runs them."""
