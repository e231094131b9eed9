"""How many intervals of 1.96 standard errors hold what they should: about 95 of 100 are meant to.

Run ``python benchmarks/intervals.py``; it takes about five minutes. Each row of the table is one
kind of result of one circuit, of 1,500 repetitions, which are the rows of a batch:

- one word, and a sum of five words that are measured in three bases: the value, and all entries of
  the gradient and of the Hessian by the angles of the circuit;
- var: the variance of an observable with two bases;
- sin f and sin 3f of an expectation value f;
- product: a polynomial of the five words, which share samples.

The angles are ordinary ones, or near those where the value is one and most samples are equal. Of
gradients and Hessians the share is that of all entries, and behind it those of the entries with the
lowest and the highest. The chance that is left in a share of 1,500 is 0.6 % at one deviation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pennylane as qml
import tensorflow as tf

import qshift
from qshift.rules.planner import multi_indices

ORDINARY = np.array([0.4, -1.1, 0.8])
NEAR_ONE = np.array([0.05, 0.1, -0.08])
_ROWS = 250  # of a batch whose errors are propagated, which takes the square of their number


def circuit(x: tf.Tensor, mixed: float = 1.0) -> None:
    qml.RY(0.5 * mixed, wires=0)
    qml.RX(x[..., 0], wires=0)
    qml.CNOT(wires=[0, 1])
    qml.RY(x[..., 1], wires=1)
    qml.CRX(x[..., 2], wires=[0, 1])
    qml.RX(0.7 * mixed, wires=0)


def one_word(x: tf.Tensor) -> Any:
    circuit(x)
    return qml.expval(qml.Z(0) @ qml.Z(1))


def near_one(x: tf.Tensor) -> Any:
    circuit(x, 0.0)
    return qml.expval(qml.Z(0) @ qml.Z(1))


_WORDS = (qml.Z(0) @ qml.Z(1), qml.X(0), qml.Y(1), qml.Z(1), qml.X(1))


def sum_of_words(x: tf.Tensor) -> Any:
    circuit(x)
    return qml.expval(qml.dot([1.0, 0.5, -0.7, 0.3, 1.0], _WORDS))


def five_words(x: tf.Tensor) -> Any:
    circuit(x)
    return [qml.expval(word) for word in _WORDS]


def variance(x: tf.Tensor) -> Any:
    circuit(x)
    return qml.var(qml.Z(0) + 0.5 * qml.X(1))


def sine(factor: float) -> Callable:
    return lambda node: lambda x: tf.sin(factor * node(x))


def product(node: Callable) -> Callable:
    def function(x: tf.Tensor) -> tf.Tensor:
        a, b, c, d, e = node(x)
        return a * b - c * d * e + d**2

    return function


def derivatives(
    function: Callable, x: np.ndarray, shots: int, repetitions: int, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields which intervals hold the value, the gradient and the Hessian, bool[repetitions,
    entries]."""
    levels = [tuple(multi_indices(range(len(x)), order)) for order in range(3)]
    indices = tuple(index for level in levels for index in level)
    found = []
    for number, rows in ((None, 1), (shots, repetitions)):
        node = qshift.QNode(
            function,
            qshift.device("simulator"),
            diff_method="shift",
            shots=number,
            seed=seed if number else None,
        )
        with tf.GradientTape() as tape:
            angles = tf.constant(x)
            tape.watch(angles)
            call = node.prepare((angles,), [angles])
        assert call is not None, "a circuit with one result"
        point = call.program.assemble([tensor.numpy() for tensor in call.tensors])
        evaluation = call.program.start(np.tile(point, (rows, 1)), number=1, errors=bool(number))
        values = evaluation.partials(indices)[:, 0]
        errors = 0.0
        if number:
            errors = np.sqrt((evaluation.deviations(indices)[:, :, 0] ** 2).sum(axis=0))
        found.append((values, errors))
    (exact, _), (values, errors) = found
    held = np.abs(values - exact) <= 1.96 * errors + 1e-12
    ends = np.cumsum([len(level) for level in levels])[:-1]
    yield from zip(("value", "gradient", "Hessian"), np.split(held, ends, axis=1), strict=True)


def functions(
    function: Callable, of: Callable, x: np.ndarray, shots: int, repetitions: int, seed: int
) -> np.ndarray:
    """Returns which intervals hold a function of a qnode, bool[repetitions, 1]."""
    node = qshift.QNode(function, qshift.device("simulator"), shots=shots, seed=seed)
    exact = of(node.update(shots=None, seed=None))(tf.constant(x[None]))
    held = []
    while len(held) < repetitions:
        rows = tf.constant(np.tile(x, (min(_ROWS, repetitions - len(held)), 1)))
        value, error = qshift.estimate(of(node), rows)
        held += (np.abs(value - exact) <= 1.96 * error.numpy() + 1e-12).tolist()
    return np.array(held)[:, None]


def studied(repetitions: int, seed: int) -> Iterator[tuple[str, str, int, np.ndarray]]:
    """Yields what is studied: the function, the kind of its result, its shots, and which intervals
    hold it."""
    for name, function, x, numbers in (
        ("one word", one_word, ORDINARY, (20, 100, 1000)),
        ("one word near 1", near_one, NEAR_ONE, (20, 100, 1000)),
        ("five words in three bases", sum_of_words, ORDINARY, (20, 100, 1000)),
    ):
        for shots in numbers:
            for kind, held in derivatives(function, x, shots, repetitions, seed):
                yield name, kind, shots, held
    for name, kind, function, of, x in (
        ("Z(0) + X(1) / 2", "var", variance, lambda node: node, ORDINARY),
        ("one word", "sin f", one_word, sine(1), ORDINARY),
        ("one word near 1", "sin f", near_one, sine(1), NEAR_ONE),
        ("one word", "sin 3f", one_word, sine(3), ORDINARY),
        ("one word near 1", "sin 3f", near_one, sine(3), NEAR_ONE),
        ("five words in three bases", "product", five_words, product, ORDINARY),
    ):
        for shots in (20, 100, 1000):
            yield name, kind, shots, functions(function, of, x, shots, repetitions, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print("| function | result | shots | share | lowest and highest entry |")
    print("|---|---|---|---|---|")
    for name, kind, shots, held in studied(given.repetitions, given.seed):
        shares = 100 * held.mean(axis=0)
        entries = f"{shares.min():.1f}, {shares.max():.1f}" if len(shares) > 1 else ""
        print(f"| {name} | {kind} | {shots:,} | {shares.mean():.1f} % | {entries} |", flush=True)


if __name__ == "__main__":
    main()
