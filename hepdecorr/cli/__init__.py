"""The command line: the only room that prints, and the only one that may import both halves."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the `hepdecorr` command."""
    from hepdecorr.cli.main import main as run

    run()
