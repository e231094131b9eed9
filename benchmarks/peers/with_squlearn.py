"""sQUlearn: its own circuit, observable, loss and derivatives, on its PennyLane executor."""

import importlib.metadata

import numpy as np
import sympy
from circuits import circuit_of
from equation import START, WEIGHT, X, residual
from squlearn import Executor
from squlearn.encoding_circuit import KyriienkoEncodingCircuit
from squlearn.observables import SummedPaulis
from squlearn.qnn import ODELoss
from squlearn.qnn.lowlevel_qnn import LowLevelQNN

from peers.serving import Job, serve


def prepare(spec):
    equation = circuit_of(spec)
    encoding = KyriienkoEncodingCircuit(
        equation.wires,
        encoding_style="chebyshev_tower",
        variational_arrangement="ABA",
        num_variational_layers=equation.layers,
    )
    observable = SummedPaulis(equation.wires, op_str="Z", include_identity=True)
    x, y, slope = sympy.symbols("x y slope")
    loss = ODELoss(residual(y, slope), [x, y, slope], [START], eta=WEIGHT)
    loss.set_opt_param_op(True)
    # Without its cache, which would answer repeated points.
    network = LowLevelQNN(encoding, observable, Executor("pennylane"), 1, caching=False)

    def run(parameters):
        found = network.evaluate(
            X[:, None],
            parameters[: equation.angles],
            parameters[equation.angles :],
            *loss.gradient_args_tuple,
        )
        by_angles, _ = loss.gradient(found, ground_truth=np.zeros(len(X)))
        return found["f"].ravel(), found["dfdx"].ravel(), by_angles

    return Job(run)


serve(prepare, {"sQUlearn": importlib.metadata.version("squlearn")})
