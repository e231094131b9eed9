"""The compiled kernel: rotations about Pauli words, matrices and readouts, on state vectors.

Importing what compiles it takes a moment, so this module is imported at the first circuit.

A state consists of float64 numbers: the real parts of all amplitudes, and behind them the imaginary
parts. So it has one bit more than there are wires, and -i times a Pauli word, like a word that is
an observable, moves each number to another place and may change its sign:

    (word state)[i] = sign (-1)^parity(i & z) state[i ^ x]

A rotation about a word, exp(-i angle/2 P), turns each of these pairs of numbers by half the angle.

Arrays of states are float64[blocks, K]. The state of one point that is alone is one block, of its
numbers. Otherwise a block holds the states of four points side by side, and there are as many
blocks as all points need; the four places of a block are called lanes. A vector of the processor
holds the same number of four points then, and four neighbours of a point that is alone, so that
the last two bits of x permute the numbers in a vector. A block of few wires stays in the cache of
the processor while all gates are applied to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qshift.executors.simulator.arithmetic import (
    NUMBER,
    VECTOR,
    Array,
    Code,
    Symbol,
    Variable,
    function,
)
from qshift.executors.simulator.arithmetic import WIDTH as WIDTH

_BYTES = 8 * WIDTH  # of a vector
_SUMS = 8  # that need not wait for each other
WORK = _SUMS * WIDTH  # numbers, for sums
_TOGETHER = _SUMS  # pairs of rows, whose signs and places have the most in common


def _orders(code: Code, order: Symbol) -> Iterator[int]:
    """Yields each permutation within a vector: code for those vectors that are so permuted."""
    for known in range(WIDTH):
        with code.when(order == known):
            yield known


def _halves(code: Code, rows: Symbol, top: Symbol, step: int = 1) -> Iterator[Symbol]:
    """Yields those rows that have zero as the bit `top`; every so many of them."""
    for above in code.loop(rows, step=top * 2):
        yield from code.loop(above + top, above, step)


def _pairs(
    code: Code, rows: Symbol, x: Symbol, z: Symbol, top: Symbol, order: Symbol
) -> Iterator[tuple[Symbol, Symbol, Symbol, int, int | None]]:
    """Yields the pairs of rows i and i ^ x: where each begins, how far behind the numbers for even
    parity of i & z those for this parity are, how vectors are permuted, and the last bits of i, if
    they are known. All are in bytes, but for these bits."""
    x, z = x * _BYTES, z * _BYTES
    is_long = (order == 0) & (top >= _TOGETHER)
    with code.when(is_long):
        signs = [code.parity(z & (k * _BYTES)) * _BYTES for k in range(_TOGETHER)]
        for i in _halves(code, rows * _BYTES, top * _BYTES, _TOGETHER * _BYTES):
            parity, other = code.parity(i & z) * _BYTES, i ^ x
            for k, sign in enumerate(signs):
                yield i + k * _BYTES, other ^ (k * _BYTES), parity ^ sign, 0, k
    with code.when(is_long == 0):
        for known in _orders(code, order):
            for i in _halves(code, rows * _BYTES, top * _BYTES, _BYTES):
                yield i, i ^ x, code.parity(i & z) * _BYTES, known, None


def _turn(
    code: Code, places: Sequence[Symbol], a: Symbol, b: Symbol, c: Symbol, s: Symbol, order: int
) -> None:
    """Turns vectors (a, b) into (c a + s b, c b - s a), permutes the second one, and stores both
    at their places."""
    first, second = places
    code.store(c * a + s * b, first)
    code.store(code.permuted(c * b - s * a, order), second)


@function("float64[:,:]", "int64[:]", "float64[:]", "float64[:,:]", "float64[:,:,:]")
def angles(
    code: Code, points: Array, columns: Array, scales: Array, signs: Array, table: Array
) -> None:
    """Writes the table of all rotations: cosines, sines and negative sines for each lane.

    Args:
        points: float64[lanes, P]: of one point that is alone, or of four for each block.
        columns: int64[R], the column with the angle of each rotation; -1 for an angle of one.
        scales: float64[R], by which it is multiplied.
        signs: float64[R, 8], the signs of each rotation for even parity, and for odd parity.
        table: float64[blocks, R, 12], the result.
    """
    lanes, blocks = points.shape[0], table.shape[0]
    for r in code.loop(columns.shape[0]):
        column, half = columns[r], scales[r] * 0.5
        last = Variable(code, code.number(1.0))
        cosine, sine = (Variable(code, each) for each in code.cosine_and_sine(half))
        for block in code.loop(blocks):
            # Angles that are not the samples of a batch, but weights, are the same for all of it.
            same = Variable(code, code.integer(0) == 0)
            with code.when(column >= 0):
                for j in range(WIDTH):
                    angle = points[_lane(code, lanes, block, j), column]
                    same.now = same.now & (angle == last.now)
            with code.when(same.now):
                signed = code.spread(sine.now) * code.load(signs.at(r, 0))
                for j, each in enumerate((code.spread(cosine.now), signed, -signed)):
                    code.store(each, table.at(block, r, j * WIDTH))
            with code.when(same.now == 0):
                for k in code.loop(WIDTH):
                    angle = points[_lane(code, lanes, block, k), column]
                    with code.when(angle != last.now):
                        last.now = angle
                        cosine.now, sine.now = code.cosine_and_sine(half * angle)
                    number = signs[r, k] * sine.now
                    table[block, r, k] = cosine.now
                    table[block, r, k + WIDTH], table[block, r, k + 2 * WIDTH] = number, -number


@function("float64[:,:]", "int64[:,:]", "float64[:,:,:]", "int64", "int64")
def forward(
    code: Code, state: Array, words: Array, table: Array, first: Symbol, stop: Symbol
) -> None:
    """Applies the rotations from `first` up to `stop` to states.

    Args:
        state: float64[blocks, K].
        words: int64[R, 4]: x and z of each rotation, by vectors; the highest bit of x; x within a
            vector.
        table: See `angles`.
    """
    rows = state.shape[1] // WIDTH
    for block in code.loop(state.shape[0]):
        start = state.at(block, 0)
        for r in code.loop(stop, first):
            x, z, top, order = (words[r, k] for k in range(4))
            c, sines = code.load(table.at(block, r, 0)), table.at(block, r, WIDTH)
            with code.when(x == 0):
                for known in _orders(code, order):
                    for i in code.loop(rows):
                        place = start + i * _BYTES
                        a, s = code.load(place), code.load(sines + code.parity(i & z) * _BYTES)
                        code.store(c * a + s * code.permuted(a, known), place)
            with code.when(x != 0):
                for i, j, parity, known, _ in _pairs(code, rows, x, z, top, order):
                    places, s = (start + i, start + j), code.load(sines + parity)
                    a, b = code.load(places[0]), code.permuted(code.load(places[1]), known)
                    _turn(code, places, a, b, c, s, known)


@function(
    *("float64[:,:]", "float64[:,:]", "int64[:,:]", "float64[:,:,:]", "float64[:,:]", "int64[:]"),
    *("float64[:]", "int64", "int64", "float64[:]", "float64[:,:]"),
)
def backward(
    code: Code,
    state: Array,
    other: Array,
    words: Array,
    table: Array,
    signs: Array,
    columns: Array,
    scales: Array,
    first: Symbol,
    stop: Symbol,
    work: Array,
    slopes: Array,
) -> None:
    """Takes back the rotations from `stop` down to `first`, and adds up derivatives by parameters.

    By adjoint differentiation (Jones and Gacon 2020, arXiv:2009.02823).

    Args:
        state: The states behind these rotations, float64[blocks, K].
        other: The observable times the states that are behind all rotations, taken back as far.
        words, table: As for `forward`.
        signs, columns, scales: As for `angles`.
        work: float64[32], zeros.
        slopes: float64[lanes, P]; the derivatives are added to it.
    """
    rows, totals = state.shape[1] // WIDTH, work.at(0)
    for block in code.loop(state.shape[0]):
        here, there = state.at(block, 0), other.at(block, 0)
        for back in code.loop(stop - first):
            r = stop - 1 - back
            x, z, top, order = (words[r, k] for k in range(4))
            c, sign = code.load(table.at(block, r, 0)), signs.at(r, 0)
            sines = table.at(block, r, 2 * WIDTH)  # the negative ones, and below them the others
            with code.when(x == 0):
                for known in _orders(code, order):
                    for i in code.loop(rows):
                        parity = code.parity(i & z) * _BYTES
                        places = here + i * _BYTES, there + i * _BYTES
                        s, (a, b) = code.load(sines - parity), map(code.load, places)
                        moved = code.permuted(a, known)
                        found = code.load(sign + parity) * b * moved
                        code.store(code.load(totals) + found, totals)
                        code.store(c * a + s * moved, places[0])
                        code.store(c * b + s * code.permuted(b, known), places[1])
            with code.when(x != 0):
                sums = [Variable(code, code.zeros()) for _ in range(_SUMS)]
                for i, j, parity, known, k in _pairs(code, rows, x, z, top, order):
                    places, others = (here + i, here + j), (there + i, there + j)
                    s = code.load(sines - parity)
                    a, d = code.load(places[0]), code.load(others[0])
                    b, e = (code.permuted(code.load(y), known) for y in (places[1], others[1]))
                    found = code.load(sign + parity) * (d * b - e * a)
                    if k is None:
                        total = totals + (i & (_SUMS - 1) * _BYTES)
                        code.store(code.load(total) + found, total)
                    else:
                        sums[k].now = sums[k].now + found
                    _turn(code, places, a, b, c, s, known)
                    _turn(code, others, d, e, c, s, known)
                for k, each in enumerate(sums):
                    code.store(code.load(totals + k * _BYTES) + each.now, totals + k * _BYTES)

            def add(lane: Symbol, slope: Symbol, r: Symbol = r) -> None:
                with code.when(columns[r] >= 0):
                    slopes[lane, columns[r]] = slopes[lane, columns[r]] + scales[r] * slope

            _add_up(code, work, slopes.shape[0], block, add)


def _add_up(
    code: Code,
    work: Array,
    lanes: Symbol,
    block: Symbol,
    add: Callable[[Symbol, Symbol], None],
) -> None:
    """Adds up eight vectors of sums, leaves zeros, and calls add(lane, sum): for each point of a
    block, or for each of the four numbers of a point that is alone."""
    for k in code.loop(WIDTH):
        total = Variable(code, code.number(0.0))
        for place in code.loop(_SUMS * WIDTH, k, WIDTH):
            total.now = total.now + work[place]
            work[place] = code.number(0.0)
        add(_lane(code, lanes, block, k), total.now)


def _lane(code: Code, lanes: Symbol, block: Symbol, k: Symbol | int) -> Symbol:
    """Returns which point it is whose numbers are at place k of the vectors of a block."""
    return code.choose(lanes == 1, code.integer(0), block * WIDTH + k)


@function(
    *("float64[:,:]", "float64[:,:]", "int64[:,:]", "float64[:,:]", "int64[:]", "float64[:,:]"),
    "float64[:]",
)
def observe(
    code: Code,
    state: Array,
    other: Array,
    words: Array,
    factors: Array,
    columns: Array,
    cotangents: Array,
    work: Array,
) -> None:
    """Adds a weighted sum of observables, times states, to other states.

    Args:
        state: The states, float64[blocks, K].
        other: What is added to.
        words: int64[W, 4], as for `forward`: the words of all observables.
        factors: float64[W, 8]: signs times coefficients, as the signs for `angles`.
        columns: int64[W], the observable that each word belongs to.
        cotangents: float64[lanes, M], the weight of each observable at each point.
        work: float64[8] or more, which is overwritten.
    """
    rows = state.shape[1] // WIDTH
    for block in code.loop(state.shape[0]):
        here, there = state.at(block, 0), other.at(block, 0)
        for w in code.loop(words.shape[0]):
            x, z, order = words[w, 0], words[w, 1], words[w, 3]
            none = Variable(code, code.integer(0) == 0)
            for k in code.loop(WIDTH):
                cotangent = cotangents[_lane(code, cotangents.shape[0], block, k), columns[w]]
                none.now = none.now & (cotangent == 0.0)
                work[k], work[k + WIDTH] = (
                    factors[w, k] * cotangent,
                    factors[w, k + WIDTH] * cotangent,
                )
            with code.when(none.now == 0):
                for known in _orders(code, order):
                    for i in code.loop(rows):
                        place = there + i * _BYTES
                        factor = code.load(work.at(0) + code.parity(i & z) * _BYTES)
                        moved = code.permuted(code.load(here + (i ^ x) * _BYTES), known)
                        code.store(code.load(place) + factor * moved, place)


@function(*("float64[:,:]", "int64[:,:]", "float64[:,:]", "int64[:]", "float64[:]", "float64[:,:]"))
def expect(
    code: Code,
    state: Array,
    words: Array,
    factors: Array,
    columns: Array,
    work: Array,
    values: Array,
) -> None:
    """Adds up expectation values of observables.

    Args:
        state: The states, float64[blocks, K].
        words, factors: As for `observe`, of all observables.
        columns: int64[W], the value that each word contributes to.
        work: float64[32], zeros.
        values: float64[lanes, M]; the expectation values are added to it.
    """
    rows, totals = state.shape[1] // WIDTH, work.at(0)
    for block in code.loop(state.shape[0]):
        here = state.at(block, 0)

        def found(i: Symbol, word: tuple[Symbol | None, Symbol, Symbol], known: int) -> Symbol:
            x, z, factor = word
            f = code.load(factor + code.parity(i & z) * _BYTES)
            own = moved = code.load(here + i * _BYTES)  # noqa: B023
            if x is not None:
                moved = code.permuted(code.load(here + (i ^ x) * _BYTES), known)  # noqa: B023
            return f * own * moved

        for w in code.loop(words.shape[0]):
            x, z, top, order = (words[w, k] for k in range(4))
            factor, column = factors.at(w, 0), columns[w]
            # Both rows of a pair contribute the same, as observables are Hermitian.
            size = code.choose(x == 0, rows, top)
            times = code.choose(x == 0, code.number(1.0), code.number(2.0))
            is_long = (size >= _SUMS) & (order == 0)
            for moves, is_it in ((None, x == 0), (x, x != 0)):
                with code.when(is_long & is_it):
                    sums = [Variable(code, code.zeros()) for _ in range(_SUMS)]
                    for i in _halves(code, rows, size, _SUMS):
                        for k, each in enumerate(sums):
                            each.now = each.now + found(i + k, (moves, z, factor), 0)
                    for k, each in enumerate(sums):
                        code.store(each.now, totals + k * _BYTES)
            with code.when(is_long == 0):
                for known in _orders(code, order):
                    for i in _halves(code, rows, size):
                        total = totals + (i & (_SUMS - 1)) * _BYTES
                        code.store(code.load(total) + found(i, (x, z, factor), known), total)

            def add(
                lane: Symbol, value: Symbol, column: Symbol = column, times: Symbol = times
            ) -> None:
                values[lane, column] = values[lane, column] + times * value

            _add_up(code, work, values.shape[0], block, add)


@function(
    *("float64[:,:]", "float64[:,:]", "int64", "int64[:]", "int64[:]", "float64[:,:,:,:]"),
    "float64[:]",
)
def multiply(
    code: Code,
    state: Array,
    result: Array,
    lanes: Symbol,
    places: Array,
    masks: Array,
    matrix: Array,
    work: Array,
) -> None:
    """Multiplies states by a matrix on some bits where other bits have given values.

    Args:
        state: The states, float64[blocks, K].
        result: Where the product is written; it may be the same array. Amplitudes where those other
            bits have other values are left as they are.
        lanes: The number of points.
        places: int64[D]: for each row of the matrix the amplitude's bits on which it acts.
        masks: (all of these bits, the bits that control the matrix, their values).
        matrix: float64[D, D, 2, lanes or 1], real and imaginary parts.
        work: float64[8 * D].
    """
    size, mine, controls, values = places.shape[0], *(masks[k] for k in range(3))
    for kind, step in _kinds(code, lanes):
        half = state.shape[1] // 2
        for block in code.loop(state.shape[0]):

            def entry(row: Symbol, d: Symbol, part: int) -> Symbol:
                same = matrix[row, d, part, 0]
                if kind == NUMBER:  # noqa: B023
                    return same
                found = Variable(code, code.spread(same))
                with code.when(matrix.shape[3] != 1):
                    found.now = code.load(matrix.at(row, d, part, block * WIDTH))  # noqa: B023
                return found.now

            for i in code.loop(half // step):
                with code.when(((i & mine) == 0) & ((i & controls) == values)):
                    for d in code.loop(size):
                        at = (i | places[d]) * step
                        for part in range(2):
                            number = code.load(state.at(block, at + half * part), kind)
                            code.store(number, work.at(d * 8 + 4 * part))
                    for row in code.loop(size):
                        nothing = code.number(0.0) if kind == NUMBER else code.zeros()
                        real, imaginary = Variable(code, nothing), Variable(code, nothing)
                        for d in code.loop(size):
                            a, b = entry(row, d, 0), entry(row, d, 1)
                            x, y = (code.load(work.at(d * 8 + k), kind) for k in (0, 4))
                            real.now = real.now + (a * x - b * y)
                            imaginary.now = imaginary.now + (a * y + b * x)
                        at = (i | places[row]) * step
                        for k, found in enumerate((real, imaginary)):
                            code.store(found.now, result.at(block, at + half * k))


def _kinds(code: Code, lanes: Symbol) -> Iterator[tuple[Any, int]]:
    """Yields what an amplitude has as its parts, and how many numbers that are: a number if a point
    is alone, otherwise a vector of those of four points. Code for both is written, so that a point
    has the same numbers, alone or among others."""
    code.fuses = False
    for kind, step in ((NUMBER, 1), (VECTOR, WIDTH)):
        with code.when((lanes == 1) == (step == 1)):
            yield kind, step


@function("float64[:,:]", "int64[:]", "int64[:]", "float64[:,:]")
def tally(code: Code, state: Array, low: Array, high: Array, probabilities: Array) -> None:
    """Adds up the probabilities of outcomes.

    Args:
        state: The states, float64[blocks, K].
        low, high: The outcome of an amplitude is that of its last bits XOR that of its first bits.
        probabilities: The result, float64[2**k, lanes].
    """
    half = state.shape[1] // 2
    for kind, step in _kinds(code, probabilities.shape[1]):
        for block in code.loop(state.shape[0]):
            for i in code.loop(half // step):
                outcome = low[i % low.shape[0]] ^ high[i // low.shape[0]]
                x, y = (code.load(state.at(block, i * step + half * k), kind) for k in range(2))
                place = probabilities.at(outcome, block * step)
                code.store(code.load(place, kind) + (x * x + y * y), place)


@function("float64[:,:]", "float64[:,:]", "int64[:]", "int64[:]", "float64[:,:]")
def weigh(code: Code, state: Array, other: Array, low: Array, high: Array, weights: Array) -> None:
    """Writes states whose amplitudes are multiplied by the weights of their outcomes.

    Args:
        state: The states, float64[blocks, K].
        other: The result.
        low, high: As for `tally`.
        weights: float64[2**k, lanes].
    """
    half = state.shape[1] // 2
    for kind, step in _kinds(code, weights.shape[1]):
        for block in code.loop(state.shape[0]):
            for i in code.loop(half // step):
                outcome = low[i % low.shape[0]] ^ high[i // low.shape[0]]
                weight = code.load(weights.at(outcome, block * step), kind)
                for k in range(2):
                    place = block, i * step + half * k
                    code.store(weight * code.load(state.at(*place), kind), other.at(*place))
