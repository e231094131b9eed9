"""A case as a script that runs by itself and says whether its results are right."""

from __future__ import annotations

import inspect

import numpy as np

from fuzz import compare
from fuzz.case import Case
from fuzz.modes import MODES

FOOTER = """

if __name__ == "__main__":
    try:
        found = run()
    except Exception as error:
        print(f"CRASH {{type(error).__name__}}: {{error}}")
        sys.stdout.flush()
        os._exit(2)
    complaint = first_difference(found, EXPECTED, {tolerance})
    print(complaint or "right")
    sys.stdout.flush()
    os._exit(1 if complaint else 0)
"""


def body(case: Case) -> str:
    """Returns the part that defines ``run()``."""
    return MODES[case.mode].source(case)


def tolerance(case: Case) -> float:
    """How far results may be off, relative to the largest number of each."""
    if case.dtype != "float64":
        return 2e-4
    if case.mode == "layer" and case.how["do"] == "fit":
        return 1e-5  # Keras computes losses in single precision
    return 1e-9


def script(case: Case, title: str) -> str:
    """Returns a script; it exits with 0 (right), 1 (wrong) or 2 (crash)."""
    numbers = ",\n".join(f"    {_written(array)}" for array in MODES[case.mode].expected(case))
    title = title.replace("\\", "/").replace('"', "'")
    return "".join(
        [
            f'"""{title}"""\n',
            body(case),
            f"\n\nEXPECTED = [\n{numbers},\n]\n\n\n",
            inspect.getsource(compare.first_difference),
            FOOTER.format(tolerance=tolerance(case)),
        ]
    )


def _written(array) -> str:
    return repr(np.array(array).tolist())
