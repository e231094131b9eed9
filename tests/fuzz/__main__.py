"""Runs the fuzzer: ``python -m fuzz --minutes 10``, with tests/ among the paths of Python."""

import sys

from fuzz.session import main

sys.exit(main())
