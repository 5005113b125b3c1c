"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from critical.cli.application import main

__all__ = ["main"]
