"""Configuration: YAML files, their schema, and options typed by signatures."""
