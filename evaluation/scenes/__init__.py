"""The world of drawn scenes: prompts, judges and encoders that need no download."""
