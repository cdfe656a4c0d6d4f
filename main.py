"""The command line of one run: `python main.py help`."""

from debias.main import main, run

__all__ = ["main"]

if __name__ == "__main__":
    run()
