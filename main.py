"""The command line of one run: `python main.py help`."""

import sys

from debias.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
