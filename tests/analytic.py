"""A circuit whose values and derivatives are formulas, and what runs it and remembers what for."""

import threading

import numpy as np

from qshift.rules.planner import OBJECTIVES, Frequencies, Planner, multi_indices


def orders(parameters, *which):
    return tuple(index for k in which for index in multi_indices(range(parameters), k))


def shifts_of(points, p):
    """Returns how much the points of a plan move each of p parameters, float64[points, p]."""
    shifts = np.zeros((len(points), p))
    for row, point in enumerate(points):
        for parameter, _, shift in point:
            shifts[row, parameter] = shift
    return shifts


class Circuit:
    """Two values, f_0 = prod_j cos(w_j x_j) and f_1 = sin(w_0 x_0), and their analytic partials."""

    num_values = 2

    def __init__(self, frequencies=(1.0, 1.0, 1.0), spectra=None, cones=None):
        self.frequencies = np.array(frequencies)
        self.num_parameters = len(frequencies)
        if cones is None:
            cones = np.ones((2, len(frequencies)), dtype=bool)
            cones[1, 1:] = False
        spectra = spectra or [Frequencies((w,)) for w in frequencies]
        self._planners = {o: Planner(spectra, cones, o) for o in OBJECTIVES}

    def planner(self, objective):
        return self._planners[objective]

    def partial(self, points, index=()):
        """Returns a partial derivative of both values, float64[N, 2]."""
        n = np.bincount(np.array(index, dtype=int), minlength=self.num_parameters)
        waves = self.frequencies**n * np.cos(points * self.frequencies + n * np.pi / 2)
        first = n[0] == n.sum()
        sine = self.frequencies[0] ** n[0] * np.sin(
            points[:, 0] * self.frequencies[0] + n[0] * np.pi / 2
        )
        return np.stack([waves.prod(axis=1), sine * first], axis=1)

    def partials(self, points, indices):
        return np.stack([self.partial(points, index) for index in indices], axis=2)


class Executor:
    """Evaluates a circuit and remembers what it was asked for."""

    def __init__(self, noise=0.0):
        self.batches = []  # of values
        self.answers = []
        self.gradient_batches = []
        self.pulled_batches = []  # of derivatives of sums of values
        self.rng = np.random.default_rng(0)
        self.noise = noise

    def __call__(self, circuit, points, call=None):
        self.batches.append(points)
        noise = self.noise * self.rng.normal(size=(len(points), circuit.num_values))
        self.answers.append(circuit.partial(points) + noise)
        return self.answers[-1]

    def gradients(self, circuit, points):
        self.gradient_batches.append(points)
        return circuit.partials(points, orders(circuit.num_parameters, 1))

    def pulled_back(self, circuit, points, cotangents):
        self.pulled_batches.append(points)
        gradients = circuit.partials(points, orders(circuit.num_parameters, 1))
        return np.einsum("nm,nmp->np", cotangents, gradients)

    @property
    def sizes(self):
        return [len(batch) for batch in self.batches]

    @property
    def gradient_sizes(self):
        return [len(batch) for batch in self.gradient_batches]

    @property
    def pulled_sizes(self):
        return [len(batch) for batch in self.pulled_batches]


def run_at_once(functions):
    barrier, results = threading.Barrier(len(functions)), [None] * len(functions)

    def run(i):
        barrier.wait()
        results[i] = functions[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result is not None for result in results)
    return results
