"""Teachers: larger frozen networks that a student learns from."""
