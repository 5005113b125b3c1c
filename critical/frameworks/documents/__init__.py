"""Configuration files as text: JSON, YAML, command lines and Python assignments."""
