"""The compiled kernel: rotations about Pauli words, matrices and readouts, on state vectors.

Numba compiles each function when it is first called, and keeps the result for later processes.
Importing Numba takes a quarter of a second, so this module is imported at the first circuit.

A state is one float64 array: the real parts of all amplitudes, and behind them the imaginary parts.
So it has one bit more than there are wires, and -i times a Pauli word, like a word that is an
observable, moves each number to another place and may change its sign:

    (word state)[i] = sign (-1)^parity(i & z) state[i ^ x]

A rotation about a word, exp(-i angle/2 P), turns each of these pairs of numbers by half the angle.

A state may be that of several points, a multiple of four of them: then the numbers of all points
stand side by side, `lanes` in all, and a vector of the processor holds the same number of four
points. With one point (``lanes == 1``) a vector holds four neighbours, so the last two bits of x
permute the numbers in a vector.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from qshift.executors.simulator.numba_internals import compiled

WIDTH = 4  # numbers in a vector
_BYTES = 8 * WIDTH
_NUMBERS = ir.VectorType(ir.DoubleType(), WIDTH)
_INTEGER = ir.IntType(64)
_FUSED = ("contract",)  # products and sums may be one instruction, where the processor has it


# --- operations on vectors, at addresses of their numbers ---


def _load(builder: Any, address: Any) -> Any:
    pointer = builder.inttoptr(address, ir.PointerType())
    return builder.load(pointer, align=8, typ=_NUMBERS)


def _store(builder: Any, numbers: Any, address: Any) -> None:
    builder.store(numbers, builder.inttoptr(address, ir.PointerType()), align=8)


def _product(builder: Any, a: Any, b: Any) -> Any:
    return builder.fmul(a, b, flags=_FUSED)


def _plus(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Returns a + b c."""
    return builder.fadd(a, _product(builder, b, c), flags=_FUSED)


def _minus(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Returns a - b c."""
    return builder.fsub(a, _product(builder, b, c), flags=_FUSED)


def _permuted(builder: Any, numbers: Any, permutation: Any) -> Any:
    """Returns the numbers of a vector, each at its place XOR `permutation`."""
    for bit in (1, 2):
        order = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [k ^ bit for k in range(WIDTH)])
        moved = builder.shuffle_vector(numbers, numbers, order)
        chosen = builder.and_(permutation, _INTEGER(bit))
        numbers = builder.select(builder.icmp_unsigned("!=", chosen, _INTEGER(0)), moved, numbers)
    return numbers


def _store_turned(builder: Any, places: Any, pair: Any, c: Any, s: Any, order: Any) -> None:
    """Turns numbers (a, b) into (c a + s b, c b - s a), permutes the second ones, and stores both
    at their places."""
    (first, second), (a, b) = places, pair
    _store(builder, _plus(builder, _product(builder, c, a), s, b), first)
    turned = _minus(builder, _product(builder, c, b), s, a)
    _store(builder, _permuted(builder, turned, order), second)


def _operation(count: int, build: Callable[..., Any]) -> tuple[Any, Callable[..., Any]]:
    """Returns what an intrinsic function of `count` integers has to return."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        build(builder, *arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * count), codegen


@intrinsic
def _parity(context, number):  # type: ignore[no-untyped-def]
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.and_(builder.ctpop(arguments[0]), _INTEGER(1))

    return types.int64(types.int64), codegen


@intrinsic
def _turn(context, first, second, cosine, sine, permutation):  # type: ignore[no-untyped-def]
    """Turns pairs of numbers (a, b) into (c a + s b, c b - s a)."""

    def build(builder: Any, first: Any, second: Any, cosine: Any, sine: Any, order: Any) -> None:
        a, b = _load(builder, first), _permuted(builder, _load(builder, second), order)
        c, s = _load(builder, cosine), _load(builder, sine)
        _store_turned(builder, (first, second), (a, b), c, s, order)

    return _operation(5, build)


@intrinsic
def _turn_within(context, first, cosine, sine, permutation):  # type: ignore[no-untyped-def]
    """Does the same with pairs that are in one vector."""

    def build(builder: Any, first: Any, cosine: Any, sine: Any, order: Any) -> None:
        a, c, s = (_load(builder, address) for address in (first, cosine, sine))
        turned = _plus(builder, _product(builder, c, a), s, _permuted(builder, a, order))
        _store(builder, turned, first)

    return _operation(4, build)


@intrinsic
def _turn_both(context, total, sign, a, b, other_a, other_b, cosine, sine, order):  # type: ignore[no-untyped-def]
    """Adds sign (a' b - b' a) to `total`, and turns both pairs of numbers, (a, b) and (a', b')."""

    def build(builder: Any, total: Any, sign: Any, *rest: Any) -> None:
        *pairs, cosine, sine, order = rest
        c, s = _load(builder, cosine), _load(builder, sine)
        a, b, other_a, other_b = (_load(builder, address) for address in pairs)
        b, other_b = (_permuted(builder, numbers, order) for numbers in (b, other_b))
        found = _minus(builder, _product(builder, other_a, b), other_b, a)
        _store(builder, _plus(builder, _load(builder, total), _load(builder, sign), found), total)
        _store_turned(builder, pairs[:2], (a, b), c, s, order)
        _store_turned(builder, pairs[2:], (other_a, other_b), c, s, order)

    return _operation(9, build)


@intrinsic
def _add(context, total, factor, numbers, permutation):  # type: ignore[no-untyped-def]
    """Adds factor times permuted numbers to `total`."""

    def build(builder: Any, total: Any, factor: Any, numbers: Any, order: Any) -> None:
        moved = _permuted(builder, _load(builder, numbers), order)
        _store(builder, _plus(builder, _load(builder, total), _load(builder, factor), moved), total)

    return _operation(4, build)


@intrinsic
def _add_product(context, total, factor, numbers, others, order):  # type: ignore[no-untyped-def]
    """Adds factor times numbers times permuted others to `total`."""

    def build(builder: Any, total: Any, factor: Any, numbers: Any, others: Any, order: Any) -> None:
        moved = _permuted(builder, _load(builder, others), order)
        product = _product(builder, _load(builder, factor), _load(builder, numbers))
        _store(builder, _plus(builder, _load(builder, total), product, moved), total)

    return _operation(5, build)


# --- what is compiled; each function once, for these types ---


_compiling = threading.RLock()
# A fork waits for what another thread compiles: in the child this would never end.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_compiling.acquire,
        after_in_parent=_compiling.release,
        after_in_child=_compiling.release,
    )


def _compiled(signature: str) -> Callable[[Callable], Callable]:
    """Returns a decorator for functions that are compiled at their first call, or read from the
    cache of an earlier process, and are in their own place from then on; before, their attribute
    `ready` returns what takes that place. They let other threads run meanwhile."""

    def decorated(function: Callable) -> Callable:
        def ready() -> Callable:
            with _compiling:
                if globals()[function.__name__] is found:
                    globals()[function.__name__] = _compile(function, signature)
            compiled: Callable = globals()[function.__name__]
            return compiled

        @functools.wraps(function)
        def found(*arguments: Any) -> None:
            ready()(*arguments)

        found.ready = ready  # type: ignore[attr-defined]
        return found

    return decorated


def _compile(function: Callable, signature: str) -> Callable:
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    # Only Python calls these functions, and they have no code that Numba could rewrite.
    settings |= {"no_cfunc_wrapper": True, "no_rewrites": True}
    try:
        return compiled(function, signature, **settings)
    except (OSError, RuntimeError):  # there is no place for a cache, or no room
        return numba.njit(signature, **settings)(function)


@_compiled("void(float64[:,::1], int64[::1], float64[::1], float64[:,::1], float64[:,::1])")
def angles(points, columns, scales, signs, table):  # type: ignore[no-untyped-def]
    """Writes the table of all rotations: cosines, sines and negative sines for each lane.

    Args:
        points: float64[lanes, P].
        columns: int64[R], the column with the angle of each rotation; -1 for an angle of one.
        scales: float64[R], by which it is multiplied.
        signs: float64[R, 8], the signs of each rotation for even parity, and for odd parity.
        table: float64[R, 3 * max(lanes, 4)], the result.
    """
    lanes, width = points.shape[0], table.shape[1] // 3
    for r in range(columns.shape[0]):
        column, half, last = columns[r], scales[r] / 2, 1.0
        cosine, sine = math.cos(half), math.sin(half)
        for k in range(width):
            # Angles that are not the samples of a batch, but weights, are the same for all of it.
            if column >= 0 and k < lanes and points[k, column] != last:
                last = points[k, column]
                cosine, sine = math.cos(half * last), math.sin(half * last)
            table[r, k] = cosine
            signed = signs[r, k & 3] * sine
            table[r, width + k], table[r, 2 * width + k] = signed, -signed


@_compiled("void(float64[::1], int64, int64[:,::1], float64[:,::1], int64, int64)")
def forward(state, lanes, words, table, first, stop):  # type: ignore[no-untyped-def]
    """Applies the rotations from `first` up to `stop` to a state.

    Args:
        state: float64[2 * 2**n * lanes].
        lanes: The number of points.
        words: int64[R, 4]: x and z of each rotation, by vectors; the highest bit of x; x within a
            vector.
        table: See `angles`.
    """
    step = _BYTES if lanes == 1 else 8 * lanes
    rows = 8 * state.shape[0] // step
    start, cosines = state.ctypes.data, table.ctypes.data
    for r in range(first, stop):
        x, z, top, order = words[r, 0], words[r, 1], words[r, 2], words[r, 3]
        cosine = cosines + 3 * step * r
        sines = cosine + step
        if x == 0:
            for i in range(rows):
                _turn_within(start + step * i, cosine, sines + step * _parity(i & z), order)
        elif step == _BYTES:
            for above in range(0, rows, 2 * top):
                for i in range(above, above + top):
                    a, b = start + _BYTES * i, start + _BYTES * (i ^ x)
                    _turn(a, b, cosine, sines + _BYTES * _parity(i & z), order)
        else:
            for above in range(0, rows, 2 * top):
                for i in range(above, above + top):
                    a, b = start + step * i, start + step * (i ^ x)
                    sine = sines + step * _parity(i & z)
                    for v in range(0, step, _BYTES):
                        _turn(a + v, b + v, cosine + v, sine + v, 0)


@_compiled(
    "void(float64[::1], float64[::1], int64, int64[:,::1], float64[:,::1], float64[:,::1],"
    "int64[::1], float64[::1], int64, int64, float64[::1], float64[:,::1])"
)
def backward(  # type: ignore[no-untyped-def]
    state, other, lanes, words, table, signs, columns, scales, first, stop, work, slopes
):
    """Takes back the rotations from `stop` down to `first`, and adds up derivatives by parameters.

    By adjoint differentiation (Jones and Gacon 2020, arXiv:2009.02823).

    Args:
        state: The state behind these rotations.
        other: The observable times the state that is behind all rotations, taken back as far.
        lanes, words, table: As for `forward`.
        signs, columns, scales: As for `angles`.
        work: float64[8 * max(lanes, 4)], zeros.
        slopes: float64[lanes, P]; the derivatives are added to it.
    """
    step = _BYTES if lanes == 1 else 8 * lanes
    width, rows = step // 8, 8 * state.shape[0] // step
    here, there = state.ctypes.data, other.ctypes.data
    cosines, all_signs, totals = table.ctypes.data, signs.ctypes.data, work.ctypes.data
    for r in range(stop - 1, first - 1, -1):
        x, z, top, order = words[r, 0], words[r, 1], words[r, 2], words[r, 3]
        cosine, sign = cosines + 3 * step * r, all_signs + 2 * _BYTES * r
        sines = cosine + 2 * step  # the negative ones, and below them the others
        if x == 0:
            for i in range(rows):
                parity, a, c = _parity(i & z), here + step * i, there + step * i
                _add_product(totals, sign + _BYTES * parity, c, a, order)
                _turn_within(a, cosine, sines - step * parity, order)
                _turn_within(c, cosine, sines - step * parity, order)
        elif step == _BYTES:
            for above in range(0, rows, 2 * top):
                for i in range(above, above + top):
                    parity, a, c = _parity(i & z), here + _BYTES * i, there + _BYTES * i
                    b, d = here + _BYTES * (i ^ x), there + _BYTES * (i ^ x)
                    s, sine = sign + _BYTES * parity, sines - _BYTES * parity
                    # The sums need not wait for each other.
                    _turn_both(totals + _BYTES * (i & 7), s, a, b, c, d, cosine, sine, order)
        else:
            for above in range(0, rows, 2 * top):
                for i in range(above, above + top):
                    parity, a, c = _parity(i & z), here + step * i, there + step * i
                    b, d = here + step * (i ^ x), there + step * (i ^ x)
                    s, sine, total = (
                        sign + _BYTES * parity,
                        sines - step * parity,
                        totals + step * (i & 7),
                    )
                    for v in range(0, step, _BYTES):
                        _turn_both(
                            total + v, s, a + v, b + v, c + v, d + v, cosine + v, sine + v, 0
                        )
        for k in range(width):
            slope = 0.0
            for place in range(k, 8 * width, width):
                slope += work[place]
                work[place] = 0.0
            if columns[r] >= 0:
                slopes[0 if lanes == 1 else k, columns[r]] += scales[r] * slope


@_compiled(
    "void(float64[::1], float64[::1], int64, int64[:,::1], float64[:,::1], int64[::1],"
    "float64[:,::1], float64[::1])"
)
def observe(state, other, lanes, words, factors, columns, cotangents, work):  # type: ignore[no-untyped-def]
    """Adds a weighted sum of observables, times a state, to another state.

    Args:
        state: The state.
        other: What is added to.
        lanes: The number of points.
        words: int64[W, 4], as for `forward`: the words of all observables.
        factors: float64[W, 8]: signs times coefficients, as the signs for `angles`.
        columns: int64[W], the observable that each word belongs to.
        cotangents: float64[lanes, M], the weight of each observable at each point.
        work: float64[2 * max(lanes, 4)].
    """
    step = _BYTES if lanes == 1 else 8 * lanes
    width, rows = step // 8, 8 * state.shape[0] // step
    here, there, factor = state.ctypes.data, other.ctypes.data, work.ctypes.data
    for w in range(words.shape[0]):
        x, z, order = words[w, 0], words[w, 1], words[w, 3]
        none = True
        for k in range(width):
            cotangent = cotangents[0 if lanes == 1 else k, columns[w]]
            none = none and cotangent == 0.0
            work[k] = factors[w, k & 3] * cotangent
            work[width + k] = factors[w, 4 + (k & 3)] * cotangent
        if none:
            continue
        for i in range(rows):
            a, b, f = there + step * i, here + step * (i ^ x), factor + step * _parity(i & z)
            if step == _BYTES:
                _add(a, f, b, order)
            else:
                for v in range(0, step, _BYTES):
                    _add(a + v, f + v, b + v, 0)


@_compiled(
    "void(float64[::1], int64, int64[:,::1], float64[:,::1], int64[::1], float64[::1],"
    "float64[:,::1])"
)
def expect(state, lanes, words, factors, columns, work, values):  # type: ignore[no-untyped-def]
    """Adds up expectation values of observables.

    Args:
        state: The state.
        lanes: The number of points.
        words, factors: As for `observe`, of all observables.
        columns: int64[W], the value that each word contributes to.
        work: float64[8 * max(lanes, 4)], zeros.
        values: float64[lanes, M]; the expectation values are added to it.
    """
    step = _BYTES if lanes == 1 else 8 * lanes
    width, rows = step // 8, 8 * state.shape[0] // step
    here, totals, factor = state.ctypes.data, work.ctypes.data, factors.ctypes.data
    for w in range(words.shape[0]):
        x, z, top, order = words[w, 0], words[w, 1], words[w, 2], words[w, 3]
        # Both rows of a pair contribute the same, as observables are Hermitian.
        times, size = (1.0, rows) if x == 0 else (2.0, top)
        for above in range(0, rows, 2 * size):
            for i in range(above, above + size):
                a, b, f = here + step * i, here + step * (i ^ x), factor + _BYTES * _parity(i & z)
                total = totals + step * (i & 7)  # the sums need not wait for each other
                if step == _BYTES:
                    _add_product(total, f, a, b, order)
                else:
                    for v in range(0, step, _BYTES):
                        _add_product(total + v, f, a + v, b + v, 0)
        for k in range(width):
            value = 0.0
            for place in range(k, 8 * width, width):
                value += work[place]
                work[place] = 0.0
            values[0 if lanes == 1 else k, columns[w]] += times * value
        factor += 2 * _BYTES


@_compiled(
    "void(float64[::1], float64[::1], int64, int64[::1], int64[::1], float64[:,:,:,::1],"
    "float64[::1])"
)
def multiply(state, result, lanes, places, masks, matrix, work):  # type: ignore[no-untyped-def]
    """Multiplies a state by a matrix on some bits where other bits have given values.

    Args:
        state: The state.
        result: Where the product is written; it may be the same array. Amplitudes where those other
            bits have other values are left as they are.
        lanes: The number of points.
        places: int64[D]: for each row of the matrix the amplitude's bits on which it acts.
        masks: (all of these bits, the bits that control the matrix, their values).
        matrix: float64[D, D, 2, lanes or 1], real and imaginary parts.
        work: float64[2 * D * lanes].
    """
    size, half = places.shape[0], state.shape[0] // 2
    each = min(matrix.shape[3] - 1, 1)  # one if there is a matrix for each point
    mine, controls, values = masks[0], masks[1], masks[2]
    for i in range(half // lanes):
        if i & mine == 0 and i & controls == values:
            for d in range(size):
                at = (i | places[d]) * lanes
                for k in range(lanes):
                    work[2 * d * lanes + k] = state[at + k]
                    work[(2 * d + 1) * lanes + k] = state[half + at + k]
            for row in range(size):
                at = (i | places[row]) * lanes
                for k in range(lanes):
                    real, imaginary = 0.0, 0.0
                    for d in range(size):
                        a, b = matrix[row, d, 0, each * k], matrix[row, d, 1, each * k]
                        x, y = work[2 * d * lanes + k], work[(2 * d + 1) * lanes + k]
                        real += a * x - b * y
                        imaginary += a * y + b * x
                    result[at + k], result[half + at + k] = real, imaginary


@_compiled("void(float64[::1], int64, int64[::1], int64[::1], float64[::1])")
def tally(state, lanes, low, high, probabilities):  # type: ignore[no-untyped-def]
    """Adds up the probabilities of outcomes.

    Args:
        state: The state.
        lanes: The number of points.
        low, high: The outcome of an amplitude is that of its last bits XOR that of its first bits.
        probabilities: The result, float64[2**k * lanes].
    """
    half, bits = state.shape[0] // 2, low.shape[0]
    for i in range(half // lanes):
        outcome = (low[i % bits] ^ high[i // bits]) * lanes
        for k in range(lanes):
            x, y = state[i * lanes + k], state[half + i * lanes + k]
            probabilities[outcome + k] += x * x + y * y


@_compiled("void(float64[::1], float64[::1], int64, int64[::1], int64[::1], float64[::1])")
def weigh(state, other, lanes, low, high, weights):  # type: ignore[no-untyped-def]
    """Writes a state whose amplitudes are multiplied by the weights of their outcomes.

    Args:
        state: The state.
        other: The result.
        lanes, low, high: As for `tally`.
        weights: float64[2**k * lanes].
    """
    half, bits = state.shape[0] // 2, low.shape[0]
    for i in range(half // lanes):
        outcome = (low[i % bits] ^ high[i // bits]) * lanes
        for k in range(lanes):
            weight, at = weights[outcome + k], i * lanes + k
            other[at] = weight * state[at]
            other[half + at] = weight * state[half + at]
