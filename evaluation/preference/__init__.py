"""Preference studies (paper Sec. 4.2, Fig. 7): people choose between two subjects' images for the same prompt."""
