"""Small learned encoders for scene images and captions, with their weights format."""
