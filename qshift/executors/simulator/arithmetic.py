"""Functions of arrays as machine code: Python runs once, on symbols of numbers that are to come.

What is done with these symbols is written down for LLVM, which chooses instructions and registers.
Loops, and vectors of four numbers, are as the Python code has them, so there is nothing to optimise
that would take long: a function is compiled in some hundredths of a second, in every process anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from llvmlite import binding, ir

from qshift.machine_code import machine_code

WIDTH = 4  # numbers in a vector
_BYTES = 8
_INTEGER, NUMBER = ir.IntType(64), ir.DoubleType()
VECTOR = ir.VectorType(NUMBER, WIDTH)
_KINDS = {"int64": (_INTEGER, np.dtype(np.int64)), "float64": (NUMBER, np.dtype(float))}
_FUSED = ("contract",)  # products and sums may be one instruction, where the processor has it
_Run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)  # lets other threads run meanwhile


class Symbol:
    """An integer, a truth value, a number, or a vector of numbers. Operators write instructions."""

    __slots__ = ("_code", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, code: Code, value: Any) -> None:
        self._code, self.value = code, value

    def _with(self, name: str, other: Any, is_reversed: bool = False) -> Symbol:
        a, b = self.value, _value(other, self.value.type)
        if is_reversed:
            a, b = b, a
        if a.type in (NUMBER, VECTOR):
            name = f"f{name}"
        flags = {"flags": _FUSED} if a.type == VECTOR and self._code.fuses else {}
        return Symbol(self._code, getattr(self._code.builder, name)(a, b, **flags))

    def __add__(self, other: Any) -> Symbol:
        return self._with("add", other)

    def __sub__(self, other: Any) -> Symbol:
        return self._with("sub", other)

    def __mul__(self, other: Any) -> Symbol:
        return self._with("mul", other)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: Any) -> Symbol:
        return self._with("sub", other, is_reversed=True)

    def __floordiv__(self, other: Any) -> Symbol:
        return self._with("udiv", other)

    def __mod__(self, other: Any) -> Symbol:
        return self._with("urem", other)

    def __and__(self, other: Any) -> Symbol:
        return self._with("and_", other)

    def __or__(self, other: Any) -> Symbol:
        return self._with("or_", other)

    def __xor__(self, other: Any) -> Symbol:
        return self._with("xor", other)

    def __neg__(self) -> Symbol:
        return Symbol(self._code, self._code.builder.fneg(self.value))

    def _compared(self, how: str, other: Any) -> Symbol:
        a, b = self.value, _value(other, self.value.type)
        builder = self._code.builder
        compare = builder.icmp_signed
        if a.type == NUMBER:  # as in Python, what is not a number differs from all numbers
            compare = builder.fcmp_unordered if how == "!=" else builder.fcmp_ordered
        return Symbol(self._code, compare(how, a, b))

    def __eq__(self, other: object) -> Symbol:  # type: ignore[override]
        return self._compared("==", other)

    def __ne__(self, other: object) -> Symbol:  # type: ignore[override]
        return self._compared("!=", other)

    def __lt__(self, other: Any) -> Symbol:
        return self._compared("<", other)

    def __ge__(self, other: Any) -> Symbol:
        return self._compared(">=", other)


def _value(given: Any, kind: Any) -> Any:
    return given.value if isinstance(given, Symbol) else ir.Constant(kind, given)


class Array:
    """An array that a function is given; its entries follow one another in C's order.

    Attributes:
        shape: The sizes of its axes.
    """

    def __init__(self, code: Code, start: Symbol, shape: Sequence[Symbol], kind: Any) -> None:
        self._code, self._start, self.shape, self._kind = code, start, tuple(shape), kind

    def at(self, *places: Any) -> Symbol:
        """Returns the address of an entry."""
        place = self._code.integer(places[0])
        for size, each in zip(self.shape[1:], places[1:], strict=True):
            place = place * size + each
        return self._start + place * _BYTES

    def __getitem__(self, places: Any) -> Symbol:
        places = places if isinstance(places, tuple) else (places,)
        return self._code.load(self.at(*places), self._kind)

    def __setitem__(self, places: Any, number: Symbol) -> None:
        places = places if isinstance(places, tuple) else (places,)
        self._code.store(number, self.at(*places))


class Variable:
    """A number, or a vector, that changes while a function runs."""

    def __init__(self, code: Code, first: Symbol) -> None:
        self._code = code
        with code.builder.goto_entry_block():
            self._place = code.builder.alloca(first.value.type)
        self.now = first

    @property
    def now(self) -> Symbol:
        """What it is now."""
        return Symbol(self._code, self._code.builder.load(self._place))

    @now.setter
    def now(self, symbol: Symbol) -> None:
        self._code.builder.store(symbol.value, self._place)


class Code:
    """What writes a function.

    Args:
        builder: LLVM's, where the function begins.

    Attributes:
        builder: As given.
        fuses: Whether products of vectors may be one instruction with a sum, which rounds once.
    """

    def __init__(self, builder: Any) -> None:
        self.builder, self.fuses = builder, True

    def integer(self, integer: Any) -> Symbol:
        """Returns the symbol of an integer, unless it is one already."""
        return Symbol(self, _value(integer, _INTEGER))

    def number(self, number: float) -> Symbol:
        """Returns the symbol of a number."""
        return Symbol(self, ir.Constant(NUMBER, number))

    def zeros(self) -> Symbol:
        """Returns a vector of zeros."""
        return Symbol(self, ir.Constant(VECTOR, [0.0] * WIDTH))

    def loop(self, stop: Any, start: Any = 0, step: Any = 1) -> Iterator[Symbol]:
        """Yields once: the integer that runs from `start` up to `stop`. What is written meanwhile
        is what the function does in a loop."""
        builder, (first, last, by) = self.builder, map(self.integer, (start, stop, step))
        before, body, end = builder.block, self._block(), self._block()
        builder.cbranch((first < last).value, body, end)
        builder.position_at_end(body)
        place = builder.phi(_INTEGER)
        place.add_incoming(first.value, before)
        yield Symbol(self, place)
        following = Symbol(self, place) + by
        place.add_incoming(following.value, builder.block)
        builder.cbranch((following < last).value, body, end)
        builder.position_at_end(end)

    @contextlib.contextmanager
    def when(self, condition: Symbol) -> Iterator[None]:
        """A context: the function does what is written within it where a condition holds."""
        then, end = self._block(), self._block()
        self.builder.cbranch(condition.value, then, end)
        self.builder.position_at_end(then)
        yield
        self.builder.branch(end)
        self.builder.position_at_end(end)

    def _block(self) -> Any:
        return self.builder.append_basic_block()

    def choose(self, condition: Symbol, yes: Symbol, no: Symbol) -> Symbol:
        """Returns one of two numbers."""
        chosen = self.builder.select(condition.value, yes.value, no.value)
        return Symbol(self, chosen)

    def load(self, address: Symbol, kind: Any = VECTOR) -> Symbol:
        """Returns the vector at an address, or a number of another kind."""
        pointer = self.builder.inttoptr(address.value, ir.PointerType())
        return Symbol(self, self.builder.load(pointer, align=_BYTES, typ=kind))

    def store(self, symbol: Symbol, address: Symbol) -> None:
        """Writes a vector, or a number, to an address."""
        pointer = self.builder.inttoptr(address.value, ir.PointerType())
        self.builder.store(symbol.value, pointer, align=_BYTES)

    def spread(self, number: Symbol) -> Symbol:
        """Returns a vector of equal numbers."""
        builder, nowhere = self.builder, ir.Constant(VECTOR, ir.Undefined)
        first = builder.insert_element(nowhere, number.value, ir.IntType(32)(0))
        places = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return Symbol(self, builder.shuffle_vector(first, nowhere, places))

    def parity(self, integer: Symbol) -> Symbol:
        """Returns whether an odd number of bits is set, 1 or 0."""
        return Symbol(self, self.builder.ctpop(integer.value)) & 1

    def permuted(self, vector: Symbol, order: int) -> Symbol:
        """Returns the numbers of a vector, each at its place XOR `order`."""
        if not order:
            return vector
        places = ir.Constant(
            ir.VectorType(ir.IntType(32), WIDTH), [k ^ order for k in range(WIDTH)]
        )
        moved = self.builder.shuffle_vector(vector.value, vector.value, places)
        return Symbol(self, moved)

    def cosine_and_sine(self, angle: Symbol) -> tuple[Symbol, Symbol]:
        """Returns the cosine and the sine of a number."""
        declare, call = self.builder.module.declare_intrinsic, self.builder.call
        cosine, sine = (
            Symbol(self, call(declare(f"llvm.{name}", [NUMBER]), [angle.value]))
            for name in ("cos", "sin")
        )
        return cosine, sine


# --- compiling ---


_compiling = threading.RLock()
# A fork waits for what another thread compiles: in the child this would never end.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_compiling.acquire,
        after_in_parent=_compiling.release,
        after_in_child=_compiling.release,
    )


class Function:
    """A function of arrays and integers, compiled when it is first needed.

    Args:
        write: write(code, *symbols) writes it.
        kinds: What it is given: ``"int64"``, or arrays such as ``"float64[:,:]"``.
    """

    def __init__(self, write: Callable[..., None], kinds: Sequence[str]) -> None:
        self.__doc__, self.name = write.__doc__, write.__name__
        self._write, self._kinds = write, [_kind(each) for each in kinds]
        self._address: int | None = None
        self._run: Any = None

    def __call__(self, *arguments: Any) -> None:
        """Runs the function. Arrays must be contiguous."""
        numbers = self.numbers(arguments)
        run = self._run or self._compiled()
        run((ctypes.c_int64 * len(numbers))(*numbers))

    def numbers(self, arguments: Sequence[Any]) -> list[int]:
        """Returns arguments as the machine code takes them: integers, and of each array where it is
        and the sizes of its axes.

        Raises:
            TypeError: If an array is of another type, or not contiguous.
        """
        found = []
        for given, (dtype, axes) in zip(arguments, self._kinds, strict=True):
            if not axes:
                found.append(int(given))
                continue
            if given.dtype != dtype or given.ndim != axes or not given.flags.c_contiguous:
                raise TypeError(
                    f"{self.name} takes contiguous arrays {dtype} of {axes} axes here, but was "
                    f"given {given.dtype} of the shape {given.shape}."
                )
            found.append(_address(given))
            found += given.shape
        return found

    @property
    def address(self) -> int:
        """Where the machine code is, ``void (int64* numbers)``; see `numbers`."""
        if self._address is None:
            self._compiled()
        assert self._address is not None
        return self._address

    def _compiled(self) -> Any:
        with _compiling:
            if self._run is None:
                self._address = machine_code(self.source()).get_function_address(self.name)
                self._run = _Run(self._address)
            return self._run

    def source(self) -> str:
        """Returns the function in LLVM's assembly language."""
        module = ir.Module(self.name)
        module.triple = binding.get_process_triple()
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()])
        function = ir.Function(module, kind, self.name)
        # Variables get their places before all else.
        entry, begin = function.append_basic_block("entry"), function.append_basic_block("begin")
        code = Code(ir.IRBuilder(begin))
        start = Symbol(code, code.builder.ptrtoint(function.args[0], _INTEGER))
        given = Array(code, start, [], _INTEGER)
        symbols: list[Any] = []
        place = 0
        for dtype, axes in self._kinds:
            first, *shape = [given[place + k] for k in range(1 + axes)]
            place += 1 + axes
            kind = next(each for each, other in _KINDS.values() if other == dtype)
            symbols.append(Array(code, first, shape, kind) if axes else first)
        self._write(code, *symbols)
        code.builder.ret_void()
        ir.IRBuilder(entry).branch(begin)
        return str(module)


def _address(array: Any) -> int:
    """Returns where an array begins, in a quarter of the time that NumPy takes to say so."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # it must not be written to, or has no numbers
        where: int = array.ctypes.data
        return where


def _kind(given: str) -> tuple[np.dtype, int]:
    name, _, axes = given.partition("[")
    return _KINDS[name][1], axes.count(":")


def function(*kinds: str) -> Callable[[Callable[..., None]], Function]:
    """Returns a decorator that makes a `Function` of what writes it."""
    return lambda write: Function(write, kinds)
