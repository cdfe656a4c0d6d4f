"""`python -m debias`: the command line of one run."""

from debias.main import run

if __name__ == "__main__":
    run()
