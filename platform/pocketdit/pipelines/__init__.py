"""The diffusers pipelines of PocketDiT and their components.

``hub/remote_code.py`` joins the modules of this package, and all modules of PocketDiT that they import, into the file
``pipeline.py`` of a published folder, so that diffusers can load the pipeline without PocketDiT. For this reason, these
modules import little, and no two of them define the same name differently.
"""
