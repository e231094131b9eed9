"""The core of qshift in a few calls, and functions of `qml.math` on tensors, as plain numbers: what
does not depend on the PennyLane that they run on, nor on how it is prepared."""

import numpy as np
import pennylane as qml
import tensorflow as tf

X = tf.constant([0.4, 0.7, -0.3], tf.float64)
EYE = tf.eye(2, dtype=tf.float64)
Z = tf.constant([[0.2, 0.1j], [-0.1j, 0.5]], tf.complex128)

# --- qml.math ---

# Functions of a vector; each with its gradient where there is one.
FUNCTIONS = {
    "abs": lambda x: qml.math.abs(x),
    "add": lambda x: qml.math.add(x, 1.0),
    "arctan2": lambda x: qml.math.arctan2(x, 2 * x),
    "asarray": lambda x: qml.math.asarray(x, dtype=tf.float32),
    "array": lambda x: qml.math.array(x),
    "block_diag": lambda x: qml.math.block_diag([x[None], EYE]),
    "cast": lambda x: qml.math.cast(x, "complex128"),
    "cast_like": lambda x: qml.math.cast_like(x, Z),
    "concatenate": lambda x: qml.math.concatenate([x, [1.0]]),
    "convert_like": lambda x: qml.math.convert_like(np.ones(2), x),
    "detach": lambda x: qml.math.detach(x) * x,
    "diag": lambda x: qml.math.diag(x),
    "diag of numbers": lambda x: qml.math.diag([x[0], 1.0]),
    "dot": lambda x: qml.math.dot(x, [1.0, 2.0, 3.0]),
    "dot of numbers": lambda x: qml.math.dot(x[0], x),
    "dtype": lambda x: qml.math.get_dtype_name(x),
    "einsum": lambda x: qml.math.einsum("i,ij->j", x, np.ones((3, 2))),
    "entr": lambda x: qml.math.entr(x**2),
    "expm": lambda x: qml.math.expm(x[0] * EYE),
    "eigvalsh": lambda x: qml.math.eigvalsh(x[0] * EYE),
    "fft": lambda x: qml.math.fft.fft(qml.math.cast(x, "complex128")),
    "flatten": lambda x: qml.math.flatten(x[None]),
    "gather": lambda x: qml.math.gather(x, [0, 2]),
    "interface": lambda x: qml.math.get_interface(x, 0.5, np.ones(2)),
    "deep interface": lambda x: qml.math.get_deep_interface([[x]]),
    "is_abstract": lambda x: qml.math.is_abstract(x),
    "is_abstract, beside": lambda x: [qml.math.is_abstract(y) for y in (0.5, [x], np.ones(2))],
    "isnan": lambda x: qml.math.isnan(x),
    "kron": lambda x: qml.math.kron(x[None], np.eye(2)),
    "logical_not": lambda x: qml.math.logical_not(x > 0),
    "matmul": lambda x: qml.math.matmul(x[None], x[:, None]),
    "moveaxis": lambda x: qml.math.moveaxis(x[None], 0, 1),
    "ndim": lambda x: qml.math.ndim(x),
    "norm": lambda x: qml.math.norm(x),
    "ones_like": lambda x: qml.math.ones_like(x),
    "outer": lambda x: qml.math.outer(x, x),
    "prod": lambda x: qml.math.prod(x),
    "real": lambda x: qml.math.real(qml.math.exp(1j * qml.math.cast(x, "complex128"))),
    "requires_grad": lambda x: [qml.math.requires_grad(y) for y in (x, EYE, 0.5)],
    "in_backprop": lambda x: qml.math.in_backprop(x),
    "reshape": lambda x: qml.math.reshape(x, (3, 1)),
    "round": lambda x: qml.math.round(x, 1),
    "scatter": lambda x: qml.math.scatter([0, 2, 3], x, [5]),
    "scatter_element_add": lambda x: qml.math.scatter_element_add(x, [1], x[0]),
    "set_index": lambda x: qml.math.set_index(x, 1, x[0]),
    "shape": lambda x: qml.math.shape(x),
    "shape of a number": lambda x: qml.math.shape(x[0]),
    "shape of a variable": lambda _: qml.math.shape(VARIABLE),
    "sqrt": lambda x: qml.math.sqrt(x**2),
    "sqrt of integers": lambda _: qml.math.sqrt(tf.constant([1, 4])),
    "stack": lambda x: qml.math.stack([x[0], x[1]]),
    "stack, mixed": lambda x: qml.math.stack([x[0], 0.1, np.float64(0.2)]),
    "sum": lambda x: qml.math.sum(x[None], axis=(0, 1)),
    "svd": lambda x: qml.math.svd(x[0] * EYE)[1],
    "take": lambda x: qml.math.take(x, [0, 2]),
    "tensordot": lambda x: qml.math.tensordot(x, np.ones((3, 2)), axes=[[0], [0]]),
    "tensor-like": lambda x: [isinstance(y, qml.typing.TensorLike) for y in (x, VARIABLE, "x")],
    "trainable": lambda x: sorted(qml.math.get_trainable_indices([x, 0.5, EYE])),
    "transpose": lambda x: qml.math.transpose(x[None]),
    "unstack": lambda x: qml.math.unstack(x),
    "vander": lambda x: qml.math.vander(x),
    "where": lambda x: qml.math.where(x > 0, x, 0.0),
}
VARIABLE = tf.Variable([0.1, 0.2], dtype=tf.float64)


def plain(result):
    """Returns a result as what JSON has, in which tensors are told from all else."""
    if isinstance(result, list | tuple):
        return [type(result).__name__, *map(plain, result)]
    if tf.is_tensor(result):
        kind = result.dtype.name
        if kind == "bool":
            return ["tensor", kind, result.numpy().tolist()]
        numbers = tf.cast(tf.convert_to_tensor(result), tf.complex128)  # of slices, too
        return ["tensor", kind, np.round(numbers.numpy(), 10).astype(str).tolist()]
    return [type(result).__name__, str(result)]


def differentiated(function):
    with tf.GradientTape() as tape:
        tape.watch(X)
        moving = [y for y in tf.nest.flatten(function(X)) if tf.is_tensor(y)]
        moving = [y for y in moving if y.dtype.is_floating or y.dtype.is_complex]
    return plain(tape.gradient(moving, X) if moving else None)


def traced(function):
    kinds = []

    @tf.function(autograph=False)
    def compiled(x):
        for y in tf.nest.flatten(function(x)):
            kinds.append([str(y.shape), y.dtype.name] if tf.is_tensor(y) else str(y))

    compiled(X)
    return kinds


def called(function):
    """Returns what a function returns, its gradient, and what it is compiled; or the errors."""
    found = []
    for way in (lambda f: plain(f(X)), differentiated, traced):
        try:
            found.append(way(function))
        except Exception as error:  # which is compared, too
            found.append(f"{type(error).__name__}: {error}"[:300])
    return found


def functions(names=FUNCTIONS):
    return {name: called(FUNCTIONS[name]) for name in names}


# --- qshift ---


def observable(c):
    return c * qml.Z(0) + qml.Hamiltonian([c, 0.5, c**2], [qml.X(0), qml.Y(1), qml.Z(0) @ qml.Z(1)])


def rotations(x):
    qml.RX(x[0], 0)
    qml.RY(2 * x[1], 1)
    qml.CNOT([0, 1])
    qml.PhaseShift(x[2] * x[0], 1)
    qml.IsingXY(x[1], [0, 1])


def controlled(x):
    qml.Hadamard(0)
    qml.ctrl(qml.RX(x[0], 1), 0)
    qml.ctrl(qml.U3(x[0], x[1], x[2], 1), 0)
    qml.ctrl(qml.PhaseShift(x[1], 1), 0, control_values=[0])
    qml.CRot(x[0], x[1], x[2], [0, 1])
    qml.ctrl(qml.PauliRot(x[2], "XY", [0, 1]), 2)


def decomposed(x):
    qml.adjoint(qml.Rot(x[0], x[1], x[2], 0))
    qml.pow(qml.RX(x[1], 1), 2)
    qml.StronglyEntanglingLayers(qml.math.reshape(tf.stack([x, 2 * x]), (1, 2, 3)), [0, 1])
    qml.evolve(
        qml.Hamiltonian([1.0, 0.5], [qml.X(0) @ qml.X(1), qml.Z(0)]), tf.cast(x[0], tf.complex128)
    )
    qml.SingleExcitation(x[2], [0, 1])
    qml.prod(qml.RX(x[0], 0), qml.RY(x[1], 1))
    qml.QFT([0, 1])


def matrices(x):
    qml.Hadamard(0)
    phases = tf.stack([x[0], x[1], x[2], x[0]])
    qml.DiagonalQubitUnitary(tf.exp(1j * tf.cast(phases, tf.complex128)), [0, 1])
    qml.SpecialUnitary(x, 0)
    qml.SelectPauliRot(x[:2], control_wires=[0], target_wire=1, rot_axis="Y")


GATES = {each.__name__: each for each in (rotations, controlled, decomposed, matrices)}


C = tf.constant(0.3, tf.float64)


def energy(c):
    return qml.expval(observable(c))


def several(_):
    return qml.probs(wires=[0, 1]), qml.var(qml.Z(0) @ qml.X(1)), qml.expval(qml.X(0))


def qnode(gates, measured, device="default.qubit", **options):
    import qshift  # Late: this module may be asked what PennyLane does alone.

    dev = qshift.device("simulator") if device == "simulator" else qml.device(device, wires=3)

    @qshift.qnode(dev, interface="tf", embedded=device != "default.qubit", **options)
    def circuit(x, c=C):
        gates(x)
        return measured(c)

    return circuit


def orders(function, *args):
    """Returns a value, its gradients, and the Hessian by the first argument."""
    with tf.GradientTape() as outer:
        outer.watch(args)
        with tf.GradientTape() as inner:
            inner.watch(args)
            value = function(*args)
        slopes = inner.gradient(value, args)
    return [value, *slopes, outer.jacobian(slopes[0], args[0])]


def first(function, *args):
    """Returns a value and its gradients."""
    with tf.GradientTape() as tape:
        tape.watch(args)
        value = function(*args)
    return [value, *tape.gradient(value, args)]


def checks():
    """Returns the results of qshift's core by name, as numbers."""
    import qshift

    found = {}
    for name, gates in GATES.items():
        circuit = qnode(gates, energy)
        found[name] = first(circuit, X, C)
        found[f"{name}, compiled"] = tf.function(lambda x, c, f=circuit: first(f, x, c))(X, C)
    circuit = qnode(rotations, energy)
    found["Hessian"] = orders(circuit, X, C)
    found["compiled Hessian"] = orders(tf.function(circuit), X, C)
    for device in ("lightning.qubit", "simulator"):
        found[device] = first(qnode(rotations, energy, device, diff_method="best"), X, C)
    layered = qnode(lambda x: [qml.RX(x, 0), qml.ctrl(qml.RY(2 * x, 1), 0)], energy)
    found["broadcast"] = orders(layered, X, C)
    found["compiled broadcast"] = first(tf.function(layered), X, C)
    stacked = qnode(rotations, several)
    found["measurements"] = first(lambda x: tf.concat([stacked(x)[0], stacked(x)[1:]], 0), X)
    found["derivatives"] = list(qshift.derivatives(circuit, X, C, order=2, argnums=0))
    found["Keras"] = trained(qshift)
    return {
        name: [np.asarray(each).tolist() for each in tf.nest.flatten(each)]
        for name, each in found.items()
    }


def trained(qshift):
    """Returns the weights of a small model after a few steps."""
    import keras

    @qshift.qnode(qml.device("default.qubit"))
    def circuit(inputs, weights):
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.StronglyEntanglingLayers(weights, wires=range(2))
        return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]

    ones = {"weights": {"initializer": "ones"}}
    layer = qshift.keras.QuantumLayer(circuit, {"weights": (1, 2, 3)}, weight_specs=ones)
    dense = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((2,), dtype="float64"), layer, dense])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    inputs = np.linspace(-1, 1, 8).reshape(4, 2)
    model.fit(inputs, inputs.sum(axis=1), epochs=2, shuffle=False, verbose=0)
    return model.get_weights()
