"""Scripts that measure the project: speed and memory against alternatives, metrics, losses and the latency model."""
