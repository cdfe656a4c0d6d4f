"""The command line of many runs: `python sweep.py --help`."""

import sys

from debias.sweep import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
