"""Rectified flow: the path between data and noise, samplers, guidance, and few-step rollouts."""
