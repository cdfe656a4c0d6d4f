"""Exceptions that end a run without a traceback: one is meant for people, one says that a run is given up."""


class GivenUp(Exception):
    """A run that is not worth going on with; nobody will go on with it later."""


class UserError(Exception):
    """Something the person can mend: what is wrong, where, and what to do about it.

    `main.py` prints the message alone and exits with status 2.
    """
