"""What all export targets share: folders, manifests, comparison with PyTorch."""
