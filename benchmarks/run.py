"""Side-by-side measurements: every ratio is of two times taken in the same run.

    python benchmarks/run.py [--quick] [--out DIR] [--tensorcircuit PYTHON] [--tfq PYTHON]
                             [--squlearn PYTHON] [--peers NAMES] [--only TEXT]

Writes benchmarks.json and benchmarks.png to DIR (default: out/). A full run takes about 10 minutes
on two idle cores, most of it the peers' compilation. TensorCircuit-NG, TensorFlow Quantum and
sQUlearn need environments of their own: name their interpreters.

Where other work keeps the cores busy, OpenMP's spinning makes lightning many times slower, most of
all with little to do: set OMP_WAIT_POLICY=passive then, which acts on all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
sys.path.insert(1, str(pathlib.Path(__file__).parents[1]))

import numpy as np
from cases import cases
from circuits import chain, quantum_function
from report import draw, gradients, others, ratios, targets
from rich.console import Console
from workers import Workers, measure


def circuits_needed(most: int) -> dict[str, list]:
    """Circuits for value, gradient and Hessian against the number of parameters."""
    import qshift

    counts = {"parameters": [], "qshift": [], "plain recursion": []}
    for parameters in range(2, most + 1, 2):
        device = qshift.device("simulator", wires=4)
        function = quantum_function(chain(parameters))
        qnode = qshift.qnode(device, diff_method="shift")(function)
        plan = qnode.plan(np.zeros(parameters), order=2)
        counts["parameters"].append(parameters)
        counts["qshift"].append(plan.circuits)
        counts["plain recursion"].append(plan.recursion)
    return counts


def memory(quick: bool) -> dict:
    """Runs memory.py, whose progress bars and findings go to the terminal."""
    script = pathlib.Path(__file__).with_name("memory.py")
    command = [sys.executable, str(script), *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller cases: a minute or two")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"))
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains it")
    parser.add_argument(
        "--peers",
        default="pennylane,jax,tensorcircuit,tfq,squlearn",
        help="those to measure, separated by commas",
    )
    named = ("tensorcircuit", "tfq", "squlearn")
    for peer in named:
        parser.add_argument(
            f"--{peer}",
            metavar="PYTHON",
            default=os.environ.get(peer.upper()) or None,
            help=f"interpreter of its environment (or the environment variable {peer.upper()})",
        )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    console, begin = Console(), time.monotonic()
    pythons = {peer: sys.executable for peer in ("qshift", "pennylane", "jax")}
    pythons |= {peer: getattr(options, peer) for peer in named}
    chosen = {"qshift", *options.peers.split(",")}
    workers = Workers({peer: python for peer, python in pythons.items() if peer in chosen})
    rounds, seconds = (3, 0.1) if options.quick else (5, 0.3)
    measured, load = {}, [os.getloadavg()]
    with console.status("starting") as status:
        for case in cases(options.quick):
            if options.only not in case.name:
                continue
            measured[case.name] = measure(case, workers, rounds, seconds, status.update)
            load.append(os.getloadavg())
            # In case the rest is interrupted.
            (options.out / "benchmarks.json").write_text(json.dumps({"measured": measured}))
        status.update("counting circuits")
        counts = circuits_needed(8 if options.quick else 20)
    workers.close()
    console.print(*(table for table in (gradients(measured), others(measured)) if table.rows))
    found = ratios(measured)
    console.print(targets(found))
    for peer, reason in workers.absent.items():
        console.print(f"Absent: {peer} ({reason})", markup=False, highlight=False)
    remembered = {} if options.only else memory(options.quick)
    report = {
        "cores": os.cpu_count(),
        "load average": [loads[0] for loads in load],
        "versions": workers.versions,
        "absent": workers.absent,
        "measured": measured,
        "ratios": found,
        "circuits": counts,
        "memory": remembered,
    }
    (options.out / "benchmarks.json").write_text(json.dumps(report, indent=1))
    draw(measured, counts, options.out / "benchmarks.png")
    console.print(
        f"Written to {options.out}/benchmarks.json and {options.out}/benchmarks.png "
        f"after {time.monotonic() - begin:.0f} s; load average {load[0][0]:.1f} at the start, "
        f"{max(loads[0] for loads in load):.1f} at most, on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
