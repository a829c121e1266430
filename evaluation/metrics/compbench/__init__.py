"""T2I-CompBench (Huang et al. 2023, arXiv 2307.06350)."""
