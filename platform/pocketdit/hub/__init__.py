"""Publish a run as a folder that diffusers loads, on this machine or on the Hugging Face Hub, and bring it back."""
