"""GenEval 2 (Kamath et al. 2025, arXiv 2512.16853)."""
