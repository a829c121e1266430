"""Reads images with captions from the layouts that people keep them in, and builds data sets of them."""
