"""The model that a user is about to train: its configuration, architecture and weight matrices."""
