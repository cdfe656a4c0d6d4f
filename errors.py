"""The one exception that is meant for people: it ends a run with a line, not with a traceback."""


class UserError(Exception):
    """Something the person can mend: what is wrong, where, and what to do about it.

    `main.py` prints the message alone and exits with status 2.
    """
