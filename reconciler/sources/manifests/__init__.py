"""Records from YAML files in a directory."""
