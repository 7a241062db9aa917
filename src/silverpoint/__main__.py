"""`python -m silverpoint` is the command `silverpoint`."""

import sys

from silverpoint.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
