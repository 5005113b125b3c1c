"""The HTML of the report and of the served pages, a part a module."""
