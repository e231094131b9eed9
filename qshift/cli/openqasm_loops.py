"""OpenQASM 3 programs with loops unrolled and integer constants replaced by their values.

Qiskit's reader knows no constants, and only loops whose variable is in no qubit's index.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from openqasm3 import ast

from qshift.errors import OpenQASMError

_MOST_STATEMENTS = 100_000
_LARGEST_EXPONENT = 64
_NAMES = {"name", "identifier", "target", "qubit"}  # fields with names that a node defines
_EXACT = {"+": operator.add, "-": operator.sub, "*": operator.mul}
# Operators on integers. On other operands, readers give them different meanings.
_ROUNDED = {"/": lambda a, b: int(a / b), "%": operator.mod, "<<": operator.lshift}


def written_out(program: ast.Program, name: str) -> ast.Program:
    """Returns a program without loops over integers that are known, and without integer constants.

    Args:
        program: A program.
        name: What error messages call it.

    Raises:
        OpenQASMError: If the program becomes too long, or a value is not the integer it has to be.
    """
    program = copy.copy(program)
    program.statements = list(_Writer(name).block(program.statements, {}))
    return program


class _Writer:
    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def block(self, statements: Iterable, known: dict[str, int]) -> Iterator:
        """Yields statements without loops and constants; adds the constants to `known`."""
        for statement in statements:
            if isinstance(statement, ast.ConstantDeclaration):
                value = self._integer(statement.init_expression, known)
                if isinstance(statement.type, ast.IntType | ast.UintType) and value is not None:
                    known[statement.identifier.name] = value
                    continue
            if isinstance(statement, ast.ForInLoop):
                values = self._values(statement.set_declaration, known)
                if values is not None:
                    for value in values:
                        inside = known | {statement.identifier.name: value}
                        yield from self.block(statement.block, inside)
                    continue
            self._count += 1
            if self._count > _MOST_STATEMENTS:
                raise OpenQASMError(
                    f"{self._name} has more than {_MOST_STATEMENTS} statements when its loops are "
                    "written out; write it as a Python function instead"
                )
            yield self._filled(statement, known)

    def _filled(self, node: Any, known: Mapping[str, int]) -> Any:
        """Returns a copy of a node with known names replaced by their values."""
        if isinstance(node, list | tuple):
            return type(node)(self._filled(each, known) for each in node)
        if not isinstance(node, ast.QASMNode):
            return node
        if isinstance(node, ast.Identifier):
            value = known.get(node.name)
            return node if value is None else _literal(value, node)
        node = copy.copy(node)
        if isinstance(node, ast.QuantumGateDefinition):
            own = {each.name for each in (*node.arguments, *node.qubits)}
            inside = {name: value for name, value in known.items() if name not in own}
            node.body = list(self.block(node.body, inside))
            return node
        for field, value in vars(node).items():
            if field == "span" or field in _NAMES and isinstance(value, ast.Identifier):
                continue
            if isinstance(value, list) and value and isinstance(value[0], ast.Statement):
                setattr(node, field, list(self.block(value, dict(known))))
            elif field in ("index", "indices", "size"):
                setattr(node, field, self._integers(value, known))
            else:
                setattr(node, field, self._filled(value, known))
        if isinstance(node, ast.BinaryExpression) and node.op.name in _EXACT_NAMES:
            value = self._integer(node, known)
            return node if value is None else _literal(value, node)
        return node

    def _integers(self, node: Any, known: Mapping[str, int]) -> Any:
        """Returns a copy of a node that must be an integer, evaluated if its names are known."""
        if isinstance(node, list):
            return [self._integers(each, known) for each in node]
        value = self._integer(node, known)
        if value is not None:
            return _literal(value, node)
        if isinstance(node, ast.RangeDefinition | ast.DiscreteSet):
            node = copy.copy(node)
            for field, each in vars(node).items():
                if field != "span":
                    setattr(node, field, self._integers(each, known))
            return node
        return self._filled(node, known)

    def _values(self, given: Any, known: Mapping[str, int]) -> list[int] | range | None:
        """Returns the integers that a loop runs over, if they are known."""
        if isinstance(given, ast.DiscreteSet):
            values = [self._integer(each, known) for each in given.values]
            known_values = [value for value in values if value is not None]
            return known_values if len(known_values) == len(values) else None
        if not isinstance(given, ast.RangeDefinition):
            return None
        start, end = (self._integer(each, known) for each in (given.start, given.end))
        step = 1 if given.step is None else self._integer(given.step, known)
        if start is None or end is None or step is None:
            return None
        if step == 0:
            line = given.span.start_line if given.span else "?"
            raise OpenQASMError(f"{self._name}, line {line}: a step of 0")
        return range(start, end + (1 if step > 0 else -1), step)  # OpenQASM includes both ends

    def _integer(self, node: Any, known: Mapping[str, int]) -> int | None:
        if isinstance(node, ast.IntegerLiteral):
            return node.value
        if isinstance(node, ast.Identifier):
            return known.get(node.name)
        if isinstance(node, ast.UnaryExpression) and node.op.name == "-":
            value = self._integer(node.expression, known)
            return None if value is None else -value
        if isinstance(node, ast.BinaryExpression):
            return self._computed(node, known)
        return None

    def _computed(self, node: Any, known: Mapping[str, int]) -> int | None:
        a, b = self._integer(node.lhs, known), self._integer(node.rhs, known)
        if a is None or b is None:
            return None
        if node.op.name == "**":
            return a**b if 0 <= b <= _LARGEST_EXPONENT else None
        function = (_EXACT | _ROUNDED).get(node.op.name)
        try:
            return None if function is None else function(a, b)
        except (ArithmeticError, ValueError) as error:
            where = f"{self._name}, line {node.span.start_line}"
            raise OpenQASMError(f"{where}: {a} {node.op.name} {b} is no integer") from error


_EXACT_NAMES = {*_EXACT, "**"}


def _literal(value: int, node: Any) -> ast.Expression:
    """Returns an integer literal with the position of a node in the text."""
    literal: ast.Expression = ast.IntegerLiteral(abs(value))
    literal.span = node.span
    if value < 0:
        literal = ast.UnaryExpression(ast.UnaryOperator["-"], literal)
        literal.span = node.span
    return literal
