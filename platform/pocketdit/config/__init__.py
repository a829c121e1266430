"""Loading of YAML files and overrides into checked, typed settings, and the schemas of experiments."""
