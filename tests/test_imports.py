"""Libraries that are imported only where they are used, in a process that has imported nothing."""

import json
import subprocess
import sys

PROGRAM = """
import json, sys, qshift
assert "keras" in dir(qshift) and "keras" not in sys.modules
qshift.qnode(qshift.device("simulator"))
assert "qshift.keras" not in sys.modules
qshift.keras.QuantumLayer
assert "keras" in sys.modules
import qshift.cli.main, qshift.api.profiles
qshift.api.profiles.profile_files()
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_llvmlite_waits_for_the_first_circuit_qiskit_for_its_devices_and_keras_for_its_name():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = set(json.loads(done.stdout))
    assert {"pennylane", "tensorflow"} <= found
    assert not {name for name in found if name.startswith(("llvmlite", "qiskit"))}
