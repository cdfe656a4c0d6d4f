"""The command line of tables and reports: `python results.py --help`."""

import sys

from debias.results import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
