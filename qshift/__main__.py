"""The command line: python -m qshift."""

import sys

from qshift.cli import main

sys.exit(main())
