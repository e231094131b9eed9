"""Gates that users wrote, of every kind: right, or an error that names the gate."""

import types

import numpy as np
import pennylane as qml
import pytest
import tensorflow as tf
from pennylane.operation import Operation

import qshift
from qshift.circuits import user_gates
from qshift.circuits.compiler import Compiler
from qshift.circuits.spectra import spectra
from qshift.tensors import is_tensor

ANGLE = 0.4
EXPECTED = np.cos(3 * ANGLE), -3 * np.sin(3 * ANGLE)  # all gates here are RX(3 x), or mean to be


def rx(angle):
    """The matrix of RX, of a number only."""
    cosine, sine = np.cos(float(angle) / 2), -1j * np.sin(float(angle) / 2)
    return np.array([[cosine, sine], [sine, cosine]])


class Gate(Operation):
    num_wires, num_params, ndim_params = 1, 1, (0,)


class Stated(Gate):
    """By matrix and frequencies."""

    parameter_frequencies = [(3,)]

    @staticmethod
    def compute_matrix(angle):
        return rx(3 * angle)


class Grown(Gate):
    """By matrix and generator."""

    def generator(self):
        return qml.Hamiltonian([-1.5], [qml.X(self.wires)])

    @staticmethod
    def compute_matrix(angle):
        return rx(3 * angle)


class Decomposed(Gate):
    @staticmethod
    def compute_decomposition(angle, wires):
        return [qml.RX(3 * angle, wires=wires)]


class ByRecipe(Gate):
    grad_recipe = ([[1.5, 1, np.pi / 6], [-1.5, 1, -np.pi / 6]],)

    @staticmethod
    def compute_matrix(angle):
        return rx(3 * angle)


class Stretched(Operation):
    """A gate whose first angle has frequencies that depend on the second."""

    num_wires, num_params, ndim_params = 1, 2, (0, 0)

    @property
    def parameter_frequencies(self):
        return [(self.data[1],), None]

    @staticmethod
    def compute_matrix(angle, scale):
        return rx(angle * scale)


class StretchedRecipe(Stretched):
    parameter_frequencies = None

    @property
    def grad_recipe(self):
        scale = float(self.data[1])
        recipe = [[scale / 2, 1, np.pi / 2 / scale], [-scale / 2, 1, -np.pi / 2 / scale]]
        return recipe, None


class StretchedParts(Stretched):
    @staticmethod
    def compute_decomposition(angle, scale, wires):
        return [qml.RX(angle * scale, wires=wires)]


class Attribute(Gate):
    """Keeps a factor outside of its hyperparameters, and decomposes."""

    def __init__(self, angle, wires, k=1.0):
        self.k = k
        super().__init__(angle, wires=wires)

    def generator(self):
        return qml.Hamiltonian([-0.5 * self.k], [qml.X(self.wires)])

    def decomposition(self):
        return [qml.RX(self.k * self.data[0], wires=self.wires)]


class Matrix(Gate):
    """Keeps a factor outside of its hyperparameters, and does not decompose."""

    k = 1.0
    has_matrix = True

    def __init__(self, angle, wires, k=None):
        super().__init__(angle, wires=wires)
        if k is not None:
            self.k = k

    def generator(self):
        return qml.Hamiltonian([-0.5 * self.k], [qml.X(self.wires)])

    def matrix(self, wire_order=None):
        return rx(self.k * self.data[0])


class Mangled(Gate):
    has_matrix = True

    def __init__(self, angle, wires, k=1.0):
        super().__init__(angle, wires=wires)
        self.__k = k

    def generator(self):
        return qml.Hamiltonian([-0.5 * self.__k], [qml.X(self.wires)])

    def matrix(self, wire_order=None):
        return rx(self.__k * self.data[0])


class Slots(Gate):
    __slots__ = ("k",)
    has_matrix = True

    def __init__(self, angle, wires, k=1.0):
        self.k = k
        super().__init__(angle, wires=wires)

    def generator(self):
        return qml.Hamiltonian([-0.5 * self.k], [qml.X(self.wires)])

    def matrix(self, wire_order=None):
        return rx(self.k * self.data[0])


class Closure(Gate):
    parameter_frequencies = [(3,)]
    has_matrix = True

    def __init__(self, angle, wires, function=lambda x: x):
        self.function = function
        super().__init__(angle, wires=wires)

    def matrix(self, wire_order=None):
        return rx(self.function(self.data[0]))


class Computed(Gate):
    """Keeps what it computes from its parameter, which is computed anew."""

    parameter_frequencies = [(3,)]
    has_matrix = True

    def __init__(self, angle, wires, k=3.0):
        self.turned = k * angle
        super().__init__(angle, wires=wires)

    def matrix(self, wire_order=None):
        return rx(self.turned)


class Table(Gate):
    """Has containers of all kinds in its hyperparameters."""

    has_matrix = True

    def __init__(self, angle, wires, table=None, options=None, tags=()):
        self._hyperparameters = {"table": table, "options": options, "tags": tags}
        super().__init__(angle, wires=wires)

    @property
    def factor(self):
        return (
            float(np.sum(self.hyperparameters["table"])) * self.hyperparameters["options"]["s"][0]
        )

    def generator(self):
        return qml.Hamiltonian([-0.5 * self.factor], [qml.X(self.wires)])

    def matrix(self, wire_order=None):
        return rx(self.factor * self.data[0])


class WrongUnflatten(Stated):
    @classmethod
    def _unflatten(cls, data, metadata):
        return cls(2 * data[0], wires=metadata[0])


class NoUnflatten(Stated):
    @classmethod
    def _unflatten(cls, data, metadata):
        raise RuntimeError("never")


class Scaled(Gate):
    """Passes another parameter on than the one it is given."""

    parameter_frequencies = [(1,)]

    def __init__(self, angle, wires):
        super().__init__(3 * angle, wires=wires)

    @staticmethod
    def compute_matrix(angle):
        return rx(angle)


class Subclass(qml.RX):
    @staticmethod
    def compute_matrix(phi, wires=None):
        return qml.RX.compute_matrix(3 * phi)

    def generator(self):
        return qml.Hamiltonian([-1.5], [qml.X(self.wires)])


class OtherMatrix(qml.RX):
    @staticmethod
    def compute_matrix(phi, wires=None):
        return qml.RX.compute_matrix(3 * phi)


class OtherParts(qml.RX):
    @staticmethod
    def compute_decomposition(phi, wires):
        return [qml.RX(3 * phi, wires=wires)]


class OtherGenerator(qml.RX):
    def generator(self):
        return qml.Hamiltonian([-1.5], [qml.X(self.wires)])


class WrongFrequencies(Stated):
    parameter_frequencies = [(1,)]


class WrongRecipe(ByRecipe):
    grad_recipe = ([[0.5, 1, np.pi / 2], [-0.5, 1, -np.pi / 2]],)


class MatrixOnly(Gate):
    @staticmethod
    def compute_matrix(angle):
        return rx(3 * angle)


class PartsByNumber(Gate):
    """Loses the tensor in its decomposition."""

    @staticmethod
    def compute_decomposition(angle, wires):
        return [qml.RX(3 * float(angle), wires=wires)]


class PartlyByNumber(Gate):
    @staticmethod
    def compute_decomposition(angle, wires):
        return [qml.RX(angle, wires=wires), qml.RX(2 * float(angle), wires=wires)]


class ByCases(Gate):
    """Decomposes into nothing where it does nothing."""

    @staticmethod
    def compute_decomposition(angle, wires):
        return [] if qml.math.allclose(angle, ANGLE) else [qml.RX(3 * angle, wires=wires)]


WEIGHT = tf.Variable(3.0, dtype=tf.float64)


class Hidden(Gate):
    """Depends on a variable that is no parameter."""

    parameter_frequencies = [(3,)]
    has_matrix = True

    def __init__(self, angle, wires):
        self.k = WEIGHT * 1.0
        super().__init__(angle, wires=wires)

    def matrix(self, wire_order=None):
        return rx(self.k * self.data[0])


class Hyper(Gate):
    """Has a tensor in its hyperparameters."""

    parameter_frequencies = [(3,)]
    has_matrix = True

    def __init__(self, angle, wires, k=None):
        self._hyperparameters = {"k": k}
        super().__init__(angle, wires=wires)

    def matrix(self, wire_order=None):
        return rx(self.hyperparameters["k"] * self.data[0])


def named(name, bases, **members):
    return type(name, bases, members)


RIGHT = {
    "stretched by parts": lambda x: StretchedParts(x, 3.0, wires=0),
    "stated": lambda x: Stated(x, 0),
    "grown": lambda x: Grown(x, 0),
    "decomposed": lambda x: Decomposed(x, 0),
    "recipe": lambda x: ByRecipe(x, 0),
    "attribute, decomposed": lambda x: Attribute(x, 0, k=3.0),
    "adjoint of that": lambda x: qml.adjoint(Attribute(-x, 0, k=3.0)),
    "computed": lambda x: Computed(x, 0),
    "table": lambda x: Table(x, 0, np.array([1.0, 0.5]), {"s": [2.0]}, {"a", "b"}),
    "lists": lambda x: Table(x, 0, [[1.0], [0.5]], {"s": [2.0], "t": {}}),
    "subclass": lambda x: Subclass(x, 0),
    "matrix called RX": lambda x: named("RX", (Stated,))(x, 0),
    "parts called RX": lambda x: named("RX", (Decomposed,))(x, 0),
    "called PauliX": lambda x: named("PauliX", (Grown,))(x, 0),
    "constant called RX": lambda x: (named("RX", (Stated,))(0.2, 0), qml.RX(3 * x - 0.6, 0)),
    "constant with attribute": lambda x: (Matrix(0.2, 0, k=3.0), qml.RX(3 * x - 0.6, 0)),
    "constant with slots": lambda x: (Slots(0.2, 0, k=3.0), qml.RX(3 * x - 0.6, 0)),
    "constant, decomposed": lambda x: (Attribute(0.2, 0, k=3.0), qml.RX(3 * x - 0.6, 0)),
    "controlled": lambda x: (qml.X(1), qml.ctrl(Grown(x, 0), 1)),
    "power": lambda x: qml.pow(Grown(x / 2, 0), 2),
}
REFUSED = {
    "attribute": (lambda x: Matrix(x, 0, k=3.0), "Matrix keeps 'k'"),
    "name-mangled": (lambda x: Mangled(x, 0, k=3.0), "Mangled keeps '_Mangled__k'"),
    "slots": (lambda x: Slots(x, 0, k=3.0), "Slots keeps 'k'"),
    "class level": (lambda x: setattr(Matrix(x, 0), "k", 3.0), "Matrix keeps 'k'"),
    "closure": (lambda x: Closure(x, 0, lambda y: 3 * y), "Closure keeps 'function'"),
    "computed otherwise": (lambda x: Computed(x, 0, k=1.5), "Computed keeps 'turned'"),
    "inside of another": (lambda x: qml.adjoint(Matrix(x, 0, k=3.0)), "Matrix keeps 'k'"),
    "other parameters": (lambda x: WrongUnflatten(x, 0), "WrongUnflatten has the parameters"),
    "cannot be unflattened": (lambda x: NoUnflatten(x, 0), "NoUnflatten cannot be put together"),
    "scaled": (lambda x: Scaled(x, 0), "Scaled has the parameters"),
    "other matrix": (lambda x: OtherMatrix(x, 0), "matrix and the generator of OtherMatrix"),
    "other parts": (lambda x: OtherParts(x, 0), "matrix and the decomposition of OtherParts"),
    "other generator": (lambda x: OtherGenerator(x, 0), "generator of OtherGenerator"),
    "wrong frequencies": (lambda x: WrongFrequencies(x, 0), "frequencies of WrongFrequencies"),
    "wrong recipe": (lambda x: WrongRecipe(x, 0), "grad_recipe of WrongRecipe"),
    "stretched": (lambda x: Stretched(x, 3.0, wires=0), "Stretched has no exact shift rule"),
    "stretched recipe": (
        lambda x: StretchedRecipe(x, 3.0, wires=0),
        "StretchedRecipe has no exact shift rule",
    ),
    "matrix only": (lambda x: MatrixOnly(x, 0), "MatrixOnly has no exact shift rule"),
    "number": (lambda x: PartsByNumber(x, 0), "decomposition of PartsByNumber makes a number"),
    "partly": (lambda x: PartlyByNumber(x, 0), "decomposition of PartlyByNumber makes a number"),
    "cases": (lambda x: ByCases(x, 0), "ByCases decomposes into other gates"),
    "hidden": (lambda x: Hidden(x, 0), "Hidden has a tensor in its attribute 'k'"),
    "hyper": (lambda x: Hyper(x, 0, WEIGHT), "Hyper has a tensor in its hyperparameter 'k'"),
    "hidden, constant": (lambda x: Hyper(0.2, 0, WEIGHT * 2), "tensor in its hyperparameter 'k'"),
}
NOT_FOR_QISKIT = {"stated", "recipe", "computed", "matrix called RX"}
# Where a gate computes with float(), it cannot be decomposed in graphs, nor by Autograd.
BY_NUMBER = {"number", "partly", "cases"}


def value_and_gradient(gate, device, compiled=False):
    @qshift.qnode(device, embedded=device.name != "default.qubit")
    def circuit(x):
        gate(x)
        return qml.expval(qml.Z(0))

    x = tf.Variable(ANGLE, dtype=tf.float64)

    def both():
        with tf.GradientTape() as tape:
            value = circuit(x)
        return value, tape.gradient(value, x)

    return (tf.function(both) if compiled else both)()


DEVICES = {
    "default.qubit": lambda: qml.device("default.qubit"),
    "simulator": lambda: qshift.device("simulator"),
    "lightning.qubit": lambda: qml.device("lightning.qubit", wires=2),
    "aer": lambda: qshift.device("aer"),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", RIGHT)
def test_users_gates_are_what_they_are(name, device, compiled):
    if device == "aer" and name in NOT_FOR_QISKIT:
        with pytest.raises((qshift.UnsupportedError, tf.errors.OpError), match="no Qiskit gate"):
            value_and_gradient(RIGHT[name], DEVICES[device](), compiled)
        return
    found = value_and_gradient(RIGHT[name], DEVICES[device](), compiled)
    np.testing.assert_allclose(found, EXPECTED, atol=1e-9)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("device", ["default.qubit", "simulator"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_of_a_gate_is_an_error_that_names_it(name, device, compiled):
    gate, message = REFUSED[name]
    if compiled and name in BY_NUMBER:
        message = "cannot be decomposed when its parameters are tensors"
    # Whether a derivative is needed is known when a compiled function runs.
    when_run = (tf.errors.InvalidArgumentError,) if compiled and "no exact" in message else ()
    with pytest.raises((qshift.UnsupportedError, *when_run), match=message):
        value_and_gradient(gate, DEVICES[device](), compiled)


@pytest.mark.parametrize("name", RIGHT)
def test_gradient_transforms_take_users_gates(name):
    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift)
    def circuit(x):
        RIGHT[name](x)
        return qml.expval(qml.Z(0))

    x = qml.numpy.array(ANGLE, requires_grad=True)
    mistakable = name in ("subclass", "matrix called RX", "called PauliX")
    if mistakable:
        with pytest.raises(qshift.UnsupportedError, match="PennyLane's devices may take"):
            circuit(x)
        return
    found = circuit(x), qml.grad(circuit)(x)
    np.testing.assert_allclose(found, EXPECTED, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in REFUSED if "hidden" not in n and n != "hyper"])
def test_gradient_transforms_refuse_the_same(name):
    gate, message = REFUSED[name]
    if name in BY_NUMBER:
        message = "cannot be decomposed when its parameters are tensors|into other gates"

    @qml.qnode(qml.device("default.qubit"), diff_method=qshift.param_shift)
    def circuit(x):
        gate(x)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.UnsupportedError, match=message):
        qml.grad(circuit)(qml.numpy.array(ANGLE, requires_grad=True))


def test_the_estimator_device_refuses_gates_that_it_would_change():
    @qml.qnode(qml.device("qshift.estimator", wires=1))
    def circuit():
        Matrix(0.2, 0, k=3.0)
        return qml.expval(qml.Z(0))

    with pytest.raises(qshift.UnsupportedError, match="Matrix keeps 'k'"):
        circuit()


def test_the_derivative_by_a_tensor_in_an_attribute_that_is_decomposed():
    @qshift.qnode(qshift.device("simulator"))
    def circuit(x, k):
        Attribute(x, 0, k=k)
        return qml.expval(qml.Z(0))

    x, k = tf.constant(ANGLE, tf.float64), tf.constant(3.0, tf.float64)
    _, (by_x, by_k) = qshift.derivatives(circuit, x, k)
    np.testing.assert_allclose(by_x, -3 * np.sin(1.2), atol=1e-12)
    np.testing.assert_allclose(by_k, -ANGLE * np.sin(1.2), atol=1e-12)


def compiled_circuit(*operations):
    tape = qml.tape.QuantumScript(operations, [qml.expval(qml.Z(0))])
    return COMPILER(tape).circuit


COMPILER = Compiler(None, is_tensor)


@pytest.mark.parametrize(
    "one, other",
    [
        (lambda: Matrix(0.2, 0, k=3.0), lambda: Matrix(0.2, 0, k=1.5)),
        (lambda: Slots(0.2, 0, k=3.0), lambda: Slots(0.2, 0, k=1.5)),
        (lambda: Closure(0.2, 0, lambda x: 2 * x), lambda: Closure(0.2, 0, lambda x: 4 * x)),
        (lambda: Table(0.2, 0, [1.0], {"s": [2.0]}), lambda: Table(0.2, 0, [1.0], {"s": [3.0]})),
        (lambda: Table(0.2, 0, [1], {"s": [2.0]}), lambda: Table(0.2, 0, [True], {"s": [2.0]})),
        (lambda: Stated(0.2, 0), lambda: named("Stated", (Grown,))(0.2, 0)),
        (lambda: qml.adjoint(Matrix(0.2, 0, k=3.0)), lambda: qml.adjoint(Matrix(0.2, 0, k=1.5))),
    ],
)
def test_gates_that_differ_in_what_pennylane_does_not_compare_are_not_taken_for_one(one, other):
    assert compiled_circuit(one()) is compiled_circuit(one())
    assert compiled_circuit(one()) is not compiled_circuit(other())


def test_class_attributes_are_looked_at_anew():
    class Switched(Matrix):
        k = 3.0

    assert [s.values for s in spectra(Switched(0.1, 0))] == [(3.0,)]
    Switched.k = 1.5
    assert [s.values for s in spectra(Switched(0.1, 0))] == [(1.5,)]


@pytest.mark.parametrize("device", ["default.qubit", "simulator", "aer"])
@pytest.mark.parametrize(
    "make, body",
    [
        (lambda: np.eye(2, dtype=complex), lambda a, x: (qml.QubitUnitary(a, 0), qml.RX(x, 0))),
        (lambda: np.array([1.0 + 0j, 0.0]), lambda a, x: (qml.StatePrep(a, 0), qml.RX(x, 0))),
        (lambda: np.array([1.0]), lambda a, x: Table(x, 0, a, {"s": [1.0]})),
        (lambda: [1.0], lambda a, x: Table(x, 0, a, {"s": [1.0]})),
        (lambda: {"s": [1.0]}, lambda a, x: Table(x, 0, [1.0], a)),
    ],
)
def test_arrays_may_change_after_a_call(device, make, body):
    def change(array):
        if isinstance(array, dict):
            array["s"] = [3.0]
        elif np.ndim(array) == 2:
            array[:] = [[0, 1], [1, 0]]
        elif np.size(array) == 2:
            array[:] = [0, 1]
        else:
            array[0] = 3.0

    array, as_it_was = make(), make()
    on = qshift.qnode(DEVICES[device](), embedded=device != "default.qubit")
    circuit = on(lambda x: (body(array, x), qml.expval(qml.Z(0)))[1])
    again = circuit.update(func=lambda x: (body(as_it_was, x), qml.expval(qml.Z(0)))[1])
    again.preparation.compilers = circuit.preparation.compilers  # what one has met, the other has
    x = tf.constant(0.3, tf.float64)
    before = float(circuit(x))
    change(array)
    changed = float(circuit(x))
    assert before == pytest.approx(np.cos(0.3)) and abs(changed - before) > 0.1
    assert float(again(x)) == before
    assert float(circuit(x)) == changed


def test_an_observable_may_change_after_a_call():
    matrix, as_it_was = np.diag([1.0, -1.0]), np.diag([1.0, -1.0])

    def observed(each):
        tape = qml.tape.QuantumScript([qml.RX(0.3, 0)], [qml.expval(qml.Hermitian(each, 0))])
        return COMPILER(tape).circuit

    circuit = observed(matrix)
    matrix[:] = 0.0
    assert observed(as_it_was) is circuit
    np.testing.assert_array_equal(circuit.measurements[0].obs.data[0], as_it_was)


def test_a_gate_that_hides_nothing_is_kept_whole():
    assert user_gates.lost(Computed(tf.constant(0.3), 0)) is None
    assert user_gates.lost(Table(0.1, 0, np.ones(2), {"s": [1.0]})) is None
    assert user_gates.lost(qml.ctrl(Grown(0.3, 0), 1)) is None


FACTOR = 3.0


class ByGlobal(Gate):
    """Depends on a name of its module."""

    def generator(self):
        return qml.Hamiltonian([-FACTOR / 2], [qml.X(self.wires)])

    @staticmethod
    def compute_matrix(angle):
        return rx(FACTOR * angle)


class StatedByGlobal(Gate):
    @property
    def parameter_frequencies(self):
        return [(FACTOR,)]

    @staticmethod
    def compute_decomposition(angle, wires):
        return [qml.RX(FACTOR * angle, wires=wires)]


@pytest.mark.parametrize("around", ["plain", "adjoint", "controlled"])
@pytest.mark.parametrize("kind", [ByGlobal, StatedByGlobal])
@pytest.mark.parametrize("method", ["shift", "best"])
def test_what_a_gate_reads_may_change(kind, method, around, monkeypatch):
    @qshift.qnode(qshift.device("simulator", wires=2), diff_method=method)
    def circuit(x):
        qml.X(1)
        gate = kind(x, 0) if around != "adjoint" else kind(-x, 0)
        if around == "adjoint":
            qml.adjoint(gate)
        elif around == "controlled":
            qml.ctrl(gate, 1)
        return qml.expval(qml.Z(0))

    for factor in (3.0, 2.0, 0.5, 3.0):
        monkeypatch.setattr(f"{__name__}.FACTOR", factor)
        found = qshift.derivatives(circuit, tf.constant(ANGLE, tf.float64), order=2)
        cosine, sine = np.cos(factor * ANGLE), np.sin(factor * ANGLE)
        expected = [cosine, -factor * sine, -(factor**2) * cosine]
        assert [float(each) for each in found] == pytest.approx(expected, abs=1e-9)


class WrongInverse(Decomposed):
    def adjoint(self):
        return type(self)(self.data[0], wires=self.wires)


class WrongInverseWithFrequencies(WrongInverse):
    parameter_frequencies = [(3,)]


class WrongInverseWithMatrix(Stated):
    def adjoint(self):
        return type(self)(self.data[0], wires=self.wires)


class RightInverse(Decomposed):
    def adjoint(self):
        return type(self)(-self.data[0], wires=self.wires)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("around", [lambda op: op, lambda op: qml.ctrl(op, 1)])
@pytest.mark.parametrize(
    "kind", [WrongInverse, WrongInverseWithFrequencies, WrongInverseWithMatrix, Subclass]
)
def test_an_adjoint_that_is_not_the_inverse(kind, around, constant):
    def circuit(x):
        qml.RX(x, 0)
        around(qml.adjoint(kind(0.3 if constant else x, 0)))
        return qml.expval(qml.Y(0))

    node = qshift.qnode(qshift.device("default-qubit", wires=2), embedded=False)(circuit)
    owner = " .inherited from RX." if kind is Subclass else ""
    message = rf"The adjoint\(\) of {kind.__name__}{owner} is not its inverse"
    with pytest.raises(qshift.UnsupportedError, match=message):
        node(tf.constant(ANGLE))


@pytest.mark.parametrize("around", [lambda op: op, lambda op: qml.ctrl(op, 1)])
def test_an_adjoint_that_is_the_inverse(around):
    @qshift.qnode(qshift.device("default-qubit", wires=2), embedded=False)
    def circuit(x):
        qml.RY(0.4, 0)
        qml.X(1)
        around(qml.adjoint(RightInverse(x, 0)))
        return qml.expval(qml.Y(0) + qml.Z(0))

    found = qshift.derivatives(circuit, tf.constant(ANGLE, tf.float64))
    cosine, sine = np.cos(0.4) * np.cos(3 * ANGLE), np.cos(0.4) * np.sin(3 * ANGLE)
    expected = [cosine + sine, 3 * (cosine - sine)]
    assert [float(each) for each in found] == pytest.approx(expected, abs=1e-12)


class Unannounced(qml.operation.Operation):
    """A gate that does not say how many dimensions its parameters have."""

    num_params, num_wires = 2, 1

    @staticmethod
    def compute_decomposition(x, y, wires):
        return [qml.RX(x, wires=wires), qml.RZ(y, wires=wires)]


@pytest.mark.parametrize("wrapped", [lambda op: op, qml.adjoint, lambda op: qml.ctrl(op, 1)])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_gate_that_does_not_say_its_dimensions_takes_batches(wrapped, compiled, rows):
    @qshift.qnode(qml.device("default.qubit"))
    def circuit(x, y):
        qml.Hadamard(1)
        wrapped(Unannounced(x, y, wires=0))
        return qml.expval(qml.Z(0))

    x, y = tf.constant(np.linspace(0.3, np.pi, rows)), tf.constant(np.linspace(-1, 1, rows))
    node = tf.function(circuit) if compiled else circuit
    with tf.GradientTape() as tape:
        tape.watch(x)
        values = node(x, y)
    slopes = tape.gradient(values, x)
    each = [circuit(*point) for point in zip(x, y, strict=True)]
    np.testing.assert_allclose(values, each, atol=1e-12)
    share = 0.5 if "Controlled" in str(wrapped(Unannounced(0.1, 0.2, wires=0))) else 1.0
    np.testing.assert_allclose(slopes, -share * np.sin(x), atol=1e-12)


# --- gates that read what is elsewhere ---


FACTOR, SETTINGS = 1.0, types.SimpleNamespace(factor=1.0)


def by_factor():
    """A function that methods call."""
    return rx(FACTOR * SETTINGS.factor)


def reading(kind):
    """Returns a gate whose methods read a factor, and a function that sets it."""
    factor = 1.0

    def turned(angle=1.0):
        return rx(factor * angle)

    def of_closure(value):
        nonlocal factor
        factor = value

    def of_object(value):
        SETTINGS.factor = value

    class Matrix(Gate):
        num_params, ndim_params = 0, ()
        compute_matrix = staticmethod(turned)

    class Parts(Gate):
        num_params, ndim_params = 0, ()

        @staticmethod
        def compute_decomposition(wires):
            return [qml.RX(factor, wires)]

    class Global(Gate):
        num_params, ndim_params = 0, ()

        @staticmethod
        def compute_matrix():
            return by_factor()

    class State(qml.operation.StatePrepBase):
        num_wires, num_params = 1, 0

        def state_vector(self, wire_order=None):
            return turned()[:, 0]

    class Tensor(Gate):
        compute_matrix = staticmethod(turned)

        def generator(self):
            return qml.Hamiltonian([-0.5 * factor], [qml.X(self.wires)])

    change = of_object if kind == "global" else of_closure
    gates = {"matrix": Matrix, "parts": Parts, "global": Global, "state": State, "tensor": Tensor}
    return gates[kind], change


@pytest.mark.parametrize("kind", ["matrix", "parts", "global", "state", "tensor"])
def test_what_methods_read_elsewhere_may_change_between_calls(kind):
    gate, change = reading(kind)

    def circuit(x):
        op = gate(x, wires=0) if kind == "tensor" else gate(wires=0)
        if kind == "matrix":
            qml.adjoint(gate(wires=1))
            qml.CNOT([1, 0])
        qml.RZ(0.7, 0)
        qml.RX(x, 0)
        return qml.expval(qml.Y(0)), op

    def first(x):
        return circuit(x)[0]

    node = qshift.QNode(first, qshift.device("simulator"))
    for factor in (1.0, 2.0, -1.0, 1.0, 2.0):
        change(factor)
        found = qshift.derivatives(node, tf.constant(ANGLE, tf.float64), order=1)
        right = qml.QNode(first, qml.device("default.qubit"))
        step = 1e-5
        slope = (right(ANGLE + step) - right(ANGLE - step)) / (2 * step)
        np.testing.assert_allclose(found[0], right(ANGLE), atol=1e-12)
        np.testing.assert_allclose(found[1], slope, atol=1e-8)
        with tf.GradientTape() as tape:
            x = tf.Variable(ANGLE, dtype=tf.float64)
            value = node(x)
        np.testing.assert_allclose(value, right(ANGLE), atol=1e-12)
        np.testing.assert_allclose(tape.gradient(value, x), slope, atol=1e-8)
