"""Results of Qiskit's primitives as qshift keeps them, against Qiskit's own way to read them."""

import numpy as np
import pytest
from qiskit.primitives import DataBin, SamplerPubResult
from qiskit.primitives.containers import BitArray

from qshift.executors.qiskit.pub_results import REGISTER, decoded, encoded, in_hex, unpacked


@pytest.mark.parametrize("shots", [1, 300])
@pytest.mark.parametrize("bits", [0, 1, 2, 7, 8, 9, 64, 70])
def test_outcomes_are_counted_as_qiskit_counts_them(bits, shots):
    """Outcomes of a few values, with zeros in front and at the end, and whatever is in the padding
    that makes whole bytes of them."""
    rng = np.random.default_rng(bits)
    few = rng.integers(0, 256, size=(3, -(-bits // 8)), dtype=np.uint8)
    few[0] = 0
    drawn = few[rng.integers(0, 3, size=(2, shots))]
    if bits:
        drawn[..., 0] ^= rng.choice([0, 1 << 7], size=(2, shots)).astype(np.uint8)
    outcomes = BitArray(drawn, bits)
    counts = unpacked("sampler", SamplerPubResult(DataBin(shape=(2,), **{REGISTER: outcomes})))
    assert [list(each.items()) for each in counts] == [
        list(outcomes.get_int_counts(row).items()) for row in range(2)
    ]
    for each in counts:
        assert all(type(number) is int for pair in each.items() for number in pair)
        assert decoded("sampler", encoded(each)) == each


def test_counts_of_copies_as_json():
    copies = [{0: 3, 2: 1}, {1: 4}]
    assert in_hex(copies) == [{"0x0": 3, "0x2": 1}, {"0x1": 4}]
    assert decoded("sampler", encoded(copies)) == copies
