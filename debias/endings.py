"""How a command line ends: its exit status, and one line in place of a traceback for what the user can fix."""

import os
import sys
from collections.abc import Callable

from debias.errors import UserError, told_of_system
from debias.harmless import let_streams_print_any_name, plain
from debias.redaction import redact


def status_of(work: Callable[[], int]) -> int:
    """Run a command line: what `work` returns, 2 after a user error or a full disk, 130 when it was interrupted.

    Where nobody reads the output any more (`| head`) it ends silently with 1. Any other error is one of the program.
    """
    let_streams_print_any_name()
    try:
        status = work()
        sys.stdout.flush()
        return status
    except UserError as error:
        return _refused(str(error))
    except KeyboardInterrupt:
        print("interrupted; repeat the command to continue where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python would fail once more when it ends and writes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        told = told_of_system(error)
        if told is None:
            raise
        return _refused(told)


def _refused(why: str) -> int:
    print(f"error: {plain(redact(why))}", file=sys.stderr)
    return 2
