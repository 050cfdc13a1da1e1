"""`python -m fastthermo`."""

import sys

from fastthermo.cli import main

if __name__ == "__main__":
    sys.exit(main())
