"""Thresholds by which the simulator chooses how it runs points, and bounds on memory.

They come from times measured on the rings of benchmarks/, and change results by rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """The numbers that decide how the simulator runs points.

    Attributes:
        fewest_together: With fewer points, states are those of one point each.
        most_wires_together: So they are on more wires.
        most_lanes: So many points run together at most.
        grain: Batches may be cut behind multiples of so many points.
        most_numbers: Numbers in the states of the points that run together: of the parts in which
            threads share long batches.
        widest_moving: Wires of the widest matrix that differs between the points of such a state.
        most_amplitudes: Amplitudes of the states that are saved for points that share what their
            first gates do.
        most_kept_alone: Numbers in the final state of a point that is alone in its batch, to be
            kept for its derivatives.
        most_kept: Numbers in all final states of a longer batch, to be kept as well.
        most_at_hand: Numbers in the arrays of a small circuit, which are kept for its next points.
        widest_matrix: Wires of the widest matrix that takes the place of a gate.
        most_weights: Numbers in the weights of all bases.
        most_probabilities: Probabilities of outcomes that are held at once, for samples.
        patience: Seconds that a batch must still take for other threads to be started.
        threads: How many threads may work on a batch; None for one per core.
    """

    fewest_together: int = 3
    most_wires_together: int = 12
    most_lanes: int = 256
    grain: int = 64
    most_numbers: int = 2**17  # 1 MiB
    widest_moving: int = 4
    most_amplitudes: int = 2**22  # 64 MiB
    most_kept_alone: int = 2**23  # 64 MiB
    most_kept: int = 2**20  # 8 MiB
    most_at_hand: int = 2**18  # 2 MiB
    widest_matrix: int = 10
    most_weights: int = 2**24  # 128 MiB
    most_probabilities: int = 2**20  # 8 MiB
    patience: float = 3e-4
    threads: int | None = None

    def lanes(self, wires: int) -> int:
        """Returns how many points a state on so many wires has, where it has several."""
        return max(4, min(self.most_lanes, self.most_numbers >> (wires + 1)) // 4 * 4)


DEFAULT = Thresholds()
