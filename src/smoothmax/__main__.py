"""`python -m smoothmax` is the program `smoothmax`."""

import sys

from smoothmax.cli import main

if __name__ == "__main__":
    sys.exit(main())
