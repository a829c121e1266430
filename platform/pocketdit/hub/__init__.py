"""Publishes a run as a diffusers pipeline in a folder or on the Hugging Face Hub, and restores runs from the Hub."""
