"""The one error that a user can mend."""

from __future__ import annotations


class InputError(ValueError):
    """What the user gave does not fit: the message names the culprit and says what to do.

    The command line prints it without a traceback and leaves with code 2.  It carries one string, so
    that it travels unchanged from a worker process to the one that prints it.
    """
