"""What a session tells: failures by kind, refusals by message, and what was covered."""

from __future__ import annotations

import collections
import pathlib
import re
import time

from fuzz.case import Case, expressions, parts, walk

RIGHT = ("right", "refused", "impossible")


def counted(case: Case) -> dict[str, list[str]]:
    """Returns what a case covers, by kind."""
    observables = [m.observable for m in case.measurements if m.observable is not None]
    return {
        "gates": sorted({op.name for op in walk(case.ops)}),
        "expressions": sorted(
            {".".join(part[:2]) if part[0] == "custom" else part[0] for part in expressions(case)}
        ),
        "measurements": sorted(
            {m.kind for m in case.measurements}
            | {part[0] for observable in observables for part in parts(observable)}
            - {part[0] for part in expressions(case)}
        ),
        "devices": [re.sub(r", wires=\[.*?\]", ", wires", case.device)],
        "modes": [case.mode, *_ways(case)],
        "arguments": sorted({leaf.kind for leaf in case.leaves} | {case.dtype, case.call})
        + ["batch"] * (case.batch is not None)
        + [leaf.access for leaf in case.leaves if leaf.access != "index"],
    }


def _ways(case: Case):
    how = case.how
    yield from (f"{case.mode}: {way}" for _, way in how.get("levels", ()))
    for name in ("graph", "do", "framework", "order"):
        if name in how:
            yield f"{case.mode}: {name} {how[name]}"


def group(case: Case, outcome) -> str:
    """Returns the kind of a failure: duplicates have the same."""
    from fuzz.runner import without_numbers

    if outcome.kind in ("crash", "refused", "impossible"):
        return f"{outcome.kind}: {without_numbers(outcome.message, 110)} {outcome.where}"
    gates = sorted({op.name for op in walk(case.ops)})
    custom = sorted({part[1] for part in expressions(case) if part[0] == "custom"})
    shots = ", shots" if case.mode == "shots" else ""
    return f"{outcome.kind}: {case.mode}{shots}, {' '.join([*gates, *custom])}"


class Report:
    """Collects records, writes scripts, and prints a line for each new kind of failure.

    Args:
        folder: Where the scripts go.
        same: How many scripts to write for one kind.
    """

    def __init__(self, folder: pathlib.Path, same: int):
        self.folder, self.same = folder, same
        self.kinds = collections.Counter()
        self.groups: dict[str, list] = collections.defaultdict(list)
        self.covered: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        self.refused = collections.Counter()
        self.examples: dict[str, int] = {}
        self.start = time.time()

    @property
    def failures(self) -> int:
        return sum(count for kind, count in self.kinds.items() if kind not in RIGHT)

    def add(self, record) -> None:
        """Counts one case."""
        self.kinds[record.kind] += 1
        if sum(self.kinds.values()) % 200 == 0:
            print(f"[{time.time() - self.start:.0f} s] {dict(self.kinds)}", flush=True)
        for kind, names in record.counts.items():
            self.covered[kind].update(names)
        if record.kind in ("refused", "impossible"):
            self.refused[record.group] += 1
            self.examples.setdefault(record.group, record.seed)
        elif record.kind != "right":
            self._failed(record)

    def _failed(self, record):
        found = self.groups[record.group]
        found.append(record.seed)
        if len(found) > self.same:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{record.kind}_{record.seed}.py"
        file.write_text(record.script or f'"""{record.message}"""\n')
        if len(found) == 1:
            print(f"\n{record.group}\n  {record.message[:300]}\n  {file}", flush=True)

    def summary(self) -> str:
        """Returns what was found and covered."""
        total, seconds = sum(self.kinds.values()), time.time() - self.start
        lines = [f"\n{total} cases in {seconds:.0f} s: {dict(self.kinds)}"]
        for kind, counter in sorted(self.covered.items()):
            counts = ", ".join(f"{name} {count}" for name, count in counter.most_common())
            lines.append(f"{kind}: {counts}")
        lines.append("refused, or impossible in TensorFlow itself (an example's seed in brackets):")
        for message, count in self.refused.most_common():
            lines.append(f"  {count} [{self.examples[message]}] {message}")
        lines.append(f"failures: {self.failures}, of {len(self.groups)} kinds")
        for name, seeds in sorted(self.groups.items(), key=lambda pair: -len(pair[1])):
            lines.append(f"  {len(seeds)} {seeds[:3]} {name}")
        return "\n".join(lines)
