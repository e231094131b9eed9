"""A process that serves SavedModels by TensorFlow alone, without qshift, PennyLane and llvmlite."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PROGRAM = """
import json, sys
sys.modules["qshift"] = sys.modules["pennylane"] = sys.modules["llvmlite"] = None
import numpy as np, tensorflow as tf

for line in sys.stdin:
    model, inputs, outputs = json.loads(line)
    model, found = tf.saved_model.load(model), {}
    call = model.serve if hasattr(model, "serve") else model.signatures["serving_default"]
    with np.load(inputs) as batches:
        for batch in batches.files:
            result = call(tf.constant(batches[batch]))
            for name, each in (result if isinstance(result, dict) else {"": result}).items():
                found[f"{batch} {name}"] = np.asarray(each)
    np.savez(outputs, **found)
    print("served", flush=True)
"""


class Server:
    """Serves one model after another, so that TensorFlow is imported once."""

    def __enter__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM], **pipes)
        return self

    def __exit__(self, *_):
        self.process.__exit__(*_)

    def __call__(self, model, batches):
        """Returns what a model's outputs are for batches of inputs: "batch output" -> array."""
        with tempfile.TemporaryDirectory() as directory:
            inputs, outputs = (str(Path(directory, f"{name}.npz")) for name in ("in", "out"))
            np.savez(inputs, **batches)
            print(json.dumps([str(model), inputs, outputs]), file=self.process.stdin, flush=True)
            assert self.process.stdout.readline() == "served\n", "it failed"
            with np.load(outputs) as found:
                return dict(found)
