"""Kills a program again and again while it talks to a service that has faults as well.

    python benchmarks/kills.py [--kills 200] [--seed 0] [--delay 0.1] [--grace 1]
    python benchmarks/kills.py --aimed [--grace 3]

The service is the loopback server of the tests, in a process of its own; the client is the real
one. With --aimed, kills are aimed at the requests that send jobs: the first to fourth of a batch,
again and again, while a gateway answers 504 and the job is seen later, or the request is carried
out when its sender is dead. Afterwards no job may have been submitted twice, no result may be lost,
and all numbers have to be those of an undisturbed run. A program is a fork of a process that has
imported everything, and takes 0.8 s of computing; all takes about 10 minutes. The grace, for which
a job is looked for that may have arrived, is shortened from 15 s, and with it how late jobs are
seen. Ctrl-C ends it with a report on the programs that came to their end.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# Before each request the client reads the source of all modules on the stack, for statistics.
os.environ.setdefault("USAGE_DATA_OPT_OUT", "True")
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(2, str(pathlib.Path(__file__).resolve().parents[1] / "tests"))

from rich.console import Console
from service import Loopback
from service.kills import Killer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and faults")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds that a job is queued")
    parser.add_argument("--aimed", action="store_true", help="at the sending of jobs")
    parser.add_argument("--grace", type=float, help="seconds, in place of qshift's own 15")
    options = parser.parse_args()
    console = Console(highlight=False)
    with Loopback("--delay", options.delay, "--seed", options.seed) as server:
        steps = 1 if options.aimed else 2
        grace = options.grace or (3.0 if options.aimed else 1.0)
        killer = Killer(server, options.seed, steps, grace, options.aimed)
        try:
            with console.status("starting") as status:
                killer.kill(options.kills, status.update)
        except KeyboardInterrupt:  # says what has happened so far
            pass
        killer.close()
    report = killer.report
    console.print(str(report))
    return int(report.twice or report.lost or report.different or False)


if __name__ == "__main__":
    sys.exit(main())
