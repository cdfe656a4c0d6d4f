"""The command line of tables and reports: `python results.py --help`."""

from debias.results import main, run

__all__ = ["main"]

if __name__ == "__main__":
    run()
