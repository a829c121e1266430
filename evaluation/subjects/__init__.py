"""Subjects of evaluations: runs, pipelines and folders of images."""
