"""The command line: python -m qshift."""

import sys

from qshift.cli.main import main

sys.exit(main())
