"""Without its extras qshift does all that needs none, and says what the rest is missing."""

import importlib.metadata
import json
import os
import subprocess
import sys

import packages
import pytest
from packaging.utils import canonicalize_name

from qshift import extras
from qshift.errors import MissingExtraError, QShiftError
from qshift.extras import require

# What runs in an environment with the core's packages only. The snippet is README's second.
PROGRAM = '''
import contextlib, io, json, pathlib, sys

BLOCKED = set(json.loads(sys.argv[1]))

class Without:
    """A finder of modules that does not find those that are blocked."""
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, *arguments):
        if name.partition(".")[0] not in BLOCKED:
            return self.finder.find_spec(name, *arguments)

sys.meta_path[:] = map(Without, sys.meta_path)
found = {}

# As README's derivatives.
names = {}
exec(sys.argv[2], names)
tf, qml, qshift, energy, x = (names[each] for each in ("tf", "qml", "qshift", "energy", "x"))
found["values"] = [names[each].numpy().tolist() for each in ("value", "gradient", "hessian")]

@qshift.qnode(qml.device("default.qubit"))
def outputs(inputs, weights):
    qml.AngleEmbedding(inputs, wires=range(2))
    qml.BasicEntanglerLayers(weights, wires=range(2))
    return [qml.expval(qml.Z(wire)) for wire in range(2)]

import keras
model = keras.Sequential([qshift.keras.QuantumLayer(outputs, {"weights": (2, 2)})])
model.compile(keras.optimizers.Adam(0.1), "mse")
before = model(tf.ones((3, 2))).numpy()
model.fit(tf.ones((3, 2)), tf.zeros((3, 2)), verbose=0)
found["trained"] = bool(abs(model(tf.ones((3, 2))).numpy() - before).max() > 1e-3)

result = qshift.minimize(energy, x, optimizer="newton", damping=2.0)
found["minimum"] = result.value

from qshift.cli.main import main
found["jobs"] = main(["jobs"])

def command(*arguments):
    """Returns what a command says as it fails."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = stop.code
    assert status == 2, said.getvalue()
    return said.getvalue()

pathlib.Path("two.qasm").write_text('OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; rx(0.1) q[0];')
pathlib.Path("three.qasm").write_text('include "stdgates.inc"; input float a; qubit q; rx(a) q;')
pathlib.Path("own.py").write_text(
    "import pennylane as qml\\n"
    "def f(x):\\n"
    "    qml.RX(x, 0)\\n"
    "    return qml.expval(qml.Z(0))\\n"
)
OWN = ("own.py:f", "--params", "0.1")
FEATURES = {
    **{
        f"device {name}": lambda name=name: qshift.device(name)
        for name in ("aer", "aer-shots", "aer-noisy", "fake-manila", "fake-sherbrooke", "ibm")
    },
    "device by name": lambda: qshift.device("simulator", device="qshift.estimator"),
    "PennyLane's device": lambda: qml.device("qshift.estimator", wires=2),
    "backend": lambda: qshift.device("aer", backend="fake:FakeManilaV2"),
    "service": lambda: __import__("qshift.executors.qiskit.service"),
    "command on a device": lambda: command("plan", *OWN, "--device", "aer"),
    "pennylane-qiskit": lambda: qshift.device("simulator", device="qiskit.aer", wires=2),
    "plot": result.plot,
    "command that plots": lambda: command("minimize", *OWN, "--plot", "out.png"),
    "OpenQASM 2": lambda: command("evaluate", "two.qasm", "--observable", "Z"),
    "OpenQASM 3": lambda: command(
        "evaluate", "three.qasm", "--observable", "Z", "--params", "0.1"
    ),
}
for name, feature in FEATURES.items():
    try:
        found[name] = str(feature())
    except qshift.errors.MissingExtraError as error:
        found[name] = str(error)
print(json.dumps(found | {"loaded": sorted(BLOCKED.intersection(sys.modules))}))
'''


def blocked():
    """Returns the top-level modules of all packages that the core does not need."""
    core = packages.needed(packages.CORE) | {"qshift"}
    return sorted(
        name
        for name, owners in importlib.metadata.packages_distributions().items()
        if not core.intersection(map(canonicalize_name, owners))
        and name not in sys.stdlib_module_names
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    assert {"qiskit", "qiskit_aer", "qiskit_ibm_runtime", "matplotlib"} < set(blocked())
    assert {"openqasm3", "psutil", "sympy"} < set(blocked())
    snippet = (packages.ROOT / "README.md").read_text().split("```python\n")[2].split("```")[0]
    places = tmp_path_factory.mktemp("core")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(blocked()), snippet],
        cwd=places,
        env=os.environ | {"PYTHONPATH": str(packages.ROOT), "XDG_STATE_HOME": str(places)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_core_computes_derivatives_trains_and_minimises(found):
    (value, gradient, hessian), cosine, sine = found["values"], 0.9950041653, 0.0998334166
    assert value == pytest.approx(cosine)
    assert gradient == [pytest.approx(0, abs=1e-12), pytest.approx(-sine)]
    assert sum(hessian, []) == pytest.approx([0, 0, 0, -cosine], abs=1e-9)
    assert found["trained"] is True
    assert found["minimum"] == pytest.approx(-1)
    assert found["jobs"] == 0
    assert found["loaded"] == []


QISKIT = {
    **{
        f"device {name}": f"The backend {backend} needs qiskit, qiskit-aer, qiskit-ibm-runtime"
        for name, backend in {
            **{"aer": "aer", "aer-shots": "aer", "aer-noisy": "aer:FakeManilaV2"},
            **{"fake-manila": "fake:FakeManilaV2", "fake-sherbrooke": "fake:FakeSherbrooke"},
            "ibm": "ibm:least-busy",
        }.items()
    },
    "device by name": "The device qshift.estimator",
    "PennyLane's device": "The device qshift.estimator",
    "backend": "The backend fake:FakeManilaV2 needs qiskit",
    "service": "ibm backends) needs qiskit, qiskit-aer, qiskit-ibm-runtime",
    "command on a device": "qshift: error: The backend aer needs qiskit",
}
OTHERS = {
    "pennylane-qiskit": ("The device qiskit.aer needs pennylane-qiskit, which is not", None),
    "plot": ("Result.plot needs matplotlib, which is not installed", "plot"),
    "command that plots": ("argument --plot: --plot needs matplotlib", "plot"),
    "OpenQASM 2": ("qshift: error: Reading OpenQASM needs qiskit, openqasm3", "qasm"),
    "OpenQASM 3": ("qshift: error: Reading OpenQASM needs qiskit, openqasm3", "qasm"),
}
EXPECTED = {name: (text, "qiskit") for name, text in QISKIT.items()} | OTHERS


@pytest.mark.parametrize("feature", EXPECTED)
def test_a_feature_without_its_extra_says_what_to_install(feature, found):
    beginning, extra = EXPECTED[feature]
    assert beginning in found[feature]
    assert f'pip install "qshift[{extra or feature}]"' in found[feature]
    assert "Traceback" not in found[feature]


def test_only_what_is_missing_is_named(monkeypatch):
    for extra in extras.EXTRAS:
        require(extra, "Nothing")
    monkeypatch.setitem(extras.EXTRAS, "plot", ("no_such_a", "numpy", "no_such_b"))
    with pytest.raises(MissingExtraError) as caught:
        require("plot", "Drawing")
    assert str(caught.value) == (
        "Drawing needs no-such-a, no-such-b, which are not installed. "
        'Install what is missing by pip install "qshift[plot]"'
    )
    assert isinstance(caught.value, QShiftError) and isinstance(caught.value, ImportError)
