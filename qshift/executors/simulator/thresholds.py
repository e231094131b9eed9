"""Thresholds by which the simulator chooses how it runs points, and bounds on memory.

They come from times measured on the rings of benchmarks/, and change results by rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """The numbers that decide how the simulator runs points.

    Attributes:
        fewest_values: By the number of wires, how many points times gates per rotation it takes for
            `Rotations`, which run all points together, to be faster than `Kernels`, which run one
            after the other. On more wires than are listed `Rotations` never are.
        fewest_gradients: The same for gradients.
        fewest_points: With fewer points `Rotations` are not made.
        most_fused_wires: On more wires, products of matrices take longer than rotations one by one.
        most_fused: Numbers in the matrices of rotations that are multiplied with each other.
        most_numbers: Numbers in the states that `Rotations` run at once, so that they stay in the
            cache.
        most_amplitudes: Amplitudes of the states that `Kernels` save, for points that share what
            their first gates do.
        widest_matrix: Wires of the widest matrix that takes the place of a gate without a kernel.
        most_weights: Numbers in the weights of all bases.
        most_probabilities: Probabilities of outcomes that are held at once.
        most_points: Points that are run at once, so that progress can be shown.
        most_wires_alone: On more wires, several observables are differentiated by several threads.
        patience: Seconds that a batch must still take for other processes to be started.
        processes: How many processes may work on a batch; None for one per core.
    """

    fewest_values: tuple[float, ...] = (24, 24, 24, 24, 24, 36, 36)
    fewest_gradients: tuple[float, ...] = (9, 9, 9, 9, 9, 15, 15, 30)
    fewest_points: int = 5
    most_fused_wires: int = 5
    most_fused: int = 2**20  # 16 MiB
    most_numbers: int = 2**17  # 1 MiB
    most_amplitudes: int = 2**22  # 64 MiB
    widest_matrix: int = 10
    most_weights: int = 2**24  # 128 MiB
    most_probabilities: int = 2**20  # 8 MiB
    most_points: int = 1000
    most_wires_alone: int = 13
    patience: float = 5.0
    processes: int | None = None

    def rotations_pay(self, wires: int, gradients: bool, points: float) -> bool:
        """Whether so many points (times gates per rotation) are enough for `Rotations`."""
        fewest = self.fewest_gradients if gradients else self.fewest_values
        return wires < len(fewest) and points >= fewest[wires]


DEFAULT = Thresholds()
