"""The command line of many runs: `python sweep.py --help`."""

from debias.sweep import main, run

__all__ = ["main"]

if __name__ == "__main__":
    run()
