"""The elastic diffusion transformer: architecture, layers, LoRA adapters, and sub-network extraction."""
