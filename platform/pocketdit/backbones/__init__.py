"""Backbones: the elastic diffusion transformer and SnapGen's U-Net.

For the transformer, this includes the architecture, layers, LoRA adapters, and sub-network extraction.
"""
