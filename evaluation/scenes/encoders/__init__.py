"""Small trained encoders for scene images and captions."""
