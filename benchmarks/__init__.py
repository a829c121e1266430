"""Scripts that compare the project's speed and memory with alternatives, and test its metrics, losses and models."""
