"""From YAML and overrides to checked, typed settings, and the schemas of experiments."""
