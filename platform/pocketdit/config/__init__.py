"""Load YAML files and overrides as checked, typed settings, and define the schemas of experiments."""
