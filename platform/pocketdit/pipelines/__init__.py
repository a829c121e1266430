"""The diffusers pipelines of PocketDiT and their components.

``hub/remote_code.py`` joins the modules of this package, and those that they import, into the file ``pipeline.py`` of a
published folder, with which diffusers loads the pipeline where PocketDiT is not installed. Therefore, they import
little, and their names are distinct.
"""
