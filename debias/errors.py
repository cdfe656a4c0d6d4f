"""Exceptions that end a run without a traceback: one is meant for users, one says that a run was pruned."""

import errno
import tempfile

# What disks and folders refuse; anything else is an error of the program.
_OF_DISKS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "the file may not become larger",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EEXIST: "a file is in the way",
    errno.ENOTDIR: "a file is where a folder belongs",
    errno.EISDIR: "a folder is where a file belongs",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "links lead in a circle",
    errno.EMFILE: "too many files are open",
    errno.ENFILE: "too many files are open",
    errno.EIO: "the disk does not answer",
    errno.ESTALE: "the disk does not answer",
}


def told_of_system(error: OSError) -> str | None:
    """One line for a fault of a disk or a folder, which the user can fix; None for any other."""
    if error.errno not in _OF_DISKS:
        return None
    # A write that fails does not say of which file.
    place = error.filename2 or error.filename or f"a file (of the run, or of the folder {tempfile.gettempdir()})"
    return f"{place} cannot be used: {_OF_DISKS[error.errno]}; fix that and repeat the command"


class GivenUp(Exception):
    """A run that is not worth continuing; it is never resumed."""


class UserError(Exception):
    """Something the user can fix: what is wrong, where, and what to do about it.

    `main.py` prints the message alone and exits with status 2.
    """
