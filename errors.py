"""Exceptions that end a run without a traceback: one is meant for users, one says that a run was pruned."""


class GivenUp(Exception):
    """A run that is not worth continuing; it is never resumed."""


class UserError(Exception):
    """Something the user can fix: what is wrong, where, and what to do about it.

    `main.py` prints the message alone and exits with status 2.
    """
