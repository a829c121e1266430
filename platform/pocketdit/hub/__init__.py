"""Publish a run as a folder that diffusers loads, locally or on the Hugging Face Hub, and restore it from there."""
