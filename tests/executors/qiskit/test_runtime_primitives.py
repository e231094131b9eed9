"""Jobs of IBM's own primitives, with runtime clients that have not deprecated them."""

import pytest

from qshift.errors import ServiceError
from qshift.executors.qiskit import qiskit_internals, runtime_primitives
from qshift.executors.qiskit.service import ServiceTarget

pytestmark = pytest.mark.skipif(
    qiskit_internals.submit is not runtime_primitives.submit, reason="a newer client"
)


def test_what_is_together():
    pubs = [("estimator", 100), ("sampler", 100), ("estimator", 300), ("estimator", 0)]
    shots = ("estimator", False), 0
    assert qiskit_internals.kinds is None
    target = object.__new__(ServiceTarget)  # of no service: only the client decides
    assert target.kinds(pubs) == [
        shots,
        (("sampler", False), 0),
        shots,
        (("estimator", True), 0),
    ]


def test_a_job_of_a_later_client_is_left_as_it_is():
    class Job:
        primitive_id = "executor"

        def job_id(self):
            return "job-7"

    with pytest.raises(ServiceError, match="job-7 was sent by qiskit-ibm-runtime 0.50 or later"):
        runtime_primitives.results(Job())
