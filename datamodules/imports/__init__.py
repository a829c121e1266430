"""Reads captioned images from common layouts, and builds data sets from them."""
