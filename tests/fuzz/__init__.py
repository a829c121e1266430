"""Programs that damage inputs at random, with a seed, and check that each is refused in a line. Run by make fuzz."""
