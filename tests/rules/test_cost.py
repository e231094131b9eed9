"""What a plan says, against the published counts."""

import dataclasses
import html.parser
import io
import json

import numpy as np
import pytest
from analytic import Circuit, Executor
from rich.console import Console

from qshift.autodiff.evaluation import Evaluation
from qshift.rules.cost import Order, Plan
from qshift.rules.planner import Frequencies, Planner, Recipe, multi_indices

FOUR = {
    "circuits": [1, 8, 18, 22],
    "total": [1, 9, 27, 49],
    "recursion": [1, 9, 73, 585],
}


def planner(spectra, objective="circuits", cones=None):
    cones = np.ones((1, len(spectra)), dtype=bool) if cones is None else cones
    spectra = [s if isinstance(s, Recipe) else Frequencies(tuple(s)) for s in spectra]
    return Planner(spectra, cones, objective)


def up_to(columns, order):
    return [(tuple(columns),) * k for k in range(order + 1)]


@pytest.fixture
def four():
    """Four parameters of one frequency each, up to the third order."""
    return Plan.of(planner([(1.0,)] * 4), up_to(range(4), 3))


def column(plan, name):
    return [getattr(order, name) for order in plan.orders]


class Cells(html.parser.HTMLParser):
    """Reads the rows of a table, and complains about tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.rows, self._open = [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_numbers(four):
    assert column(four, "order") == [0, 1, 2, 3]
    for name, expected in FOUR.items():
        assert column(four, name) == expected
    assert column(four, "batches") == [1, 1, 1, 1]
    assert column(four, "shots") == [0, 0, 0, 0]
    assert (four.circuits, four.batches, four.shots, four.recursion) == (49, 4, 0, 585)
    assert (four.parameters, four.objective, four.points) == (4, "circuits", 1)


@pytest.mark.parametrize("p, expected", [(1, [1, 3, 7, 15]), (10, [1, 21, 421, 8421])])
def test_plain_recursion_of_one_frequency(p, expected):
    plan = Plan.of(planner([(1.0,)] * p), up_to(range(p), 3))
    assert column(plan, "recursion") == expected


def test_plain_recursion_of_other_spectra():
    """Each level evaluates 2R points, or a recipe's terms, for each parameter."""
    recipe = Recipe(((0.5, 1.0, 0.3), (-0.5, 1.0, -0.3), (0.1, 0.0, 0.0)))
    plan = Plan.of(planner([(1.0,), (0.5, 1.0), (1, 3, 4), (), recipe]), up_to(range(5), 2))
    branches = 2 + 4 + 6 + 0 + 3
    assert column(plan, "recursion") == [1, 1 + branches, 1 + branches + branches**2]


def test_shots():
    plan = Plan.of(planner([(1.0,)] * 4, "shots"), up_to(range(4), 3), shots=100)
    assert column(plan, "total") == [1, 9, 37, 93]
    assert column(plan, "shots") == [100, 800, 2800, 5600]
    assert plan.shots == 9300
    assert plan.objective == "shots"


def test_a_batch_runs_every_circuit_at_each_of_its_points():
    plan = Plan.of(planner([(1.0,)] * 4), up_to(range(4), 3), points=5, shots=10)
    for name, expected in FOUR.items():
        assert column(plan, name) == [5 * n for n in expected]
    assert column(plan, "shots") == [50 * n for n in FOUR["circuits"]]
    assert column(plan, "batches") == [1] * 4
    assert plan.points == 5


def test_adjoint():
    """One value, then the gradient's points are what the value's would be one order below."""
    plan = Plan.of(planner([(1.0,)] * 4), up_to(range(4), 3), adjoint=True)
    assert column(plan, "circuits") == [1, 1, 8, 18]
    assert column(plan, "total") == [1, 2, 10, 28]


def test_only_the_parameters_differentiated_by():
    plan = Plan.of(planner([(1.0,)] * 6), up_to([4, 1], 2))
    assert column(plan, "total") == [1, 5, 8]
    assert column(plan, "recursion") == [1, 5, 21]
    assert plan.parameters == 2


def test_no_parameters():
    plan = Plan.of(planner([(1.0,)] * 2), up_to([], 2), shots=10)
    assert column(plan, "total") == [1, 1, 1]
    assert column(plan, "batches") == [1, 0, 0]
    assert column(plan, "shots") == [10, 0, 0]
    assert column(plan, "recursion") == [1, 1, 1]


def test_the_value_alone():
    plan = Plan.of(planner([(1.0,)] * 2), up_to(range(2), 0))
    assert (plan.circuits, plan.batches, plan.recursion) == (1, 1, 1)


def test_light_cones():
    cones = np.array([[1, 1, 0], [0, 1, 1]], dtype=bool)
    plan = Plan.of(planner([(1.0,)] * 3, cones=cones), up_to(range(3), 2))
    assert column(plan, "total") == [1, 7, 13]


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("objective", ["circuits", "shots"])
@pytest.mark.parametrize("spectra", [[(1.0,)] * 3, [(0.5, 1.0), (1.0, 3.0)], [(1.0,), ()]])
def test_the_plan_is_what_is_run(spectra, objective, adjoint):
    """Order by order, as nested tapes ask."""
    columns = range(len(spectra))
    plan = Plan.of(planner(spectra, objective), up_to(columns, 3), points=2, adjoint=adjoint)
    executor = Executor()
    circuit = Circuit(
        np.ones(len(spectra)), list(map(Frequencies, spectra)), np.ones((2, len(spectra)), bool)
    )
    evaluation = Evaluation(circuit, executor, np.zeros((2, len(spectra))), objective, adjoint)
    for order in plan.orders:
        before = len(executor.sizes), len(executor.gradient_sizes)
        evaluation.partials(tuple(multi_indices(columns, order.order)))
        ran = executor.sizes[before[0] :] + executor.gradient_sizes[before[1] :]
        assert ran == [order.circuits] * order.batches


def test_total(four):
    two = Plan.of(planner([(1.0,)] * 2), up_to(range(2), 3), points=3, shots=7)
    both = Plan.total([four, two])
    for name in ("circuits", "total", "batches", "shots", "recursion"):
        assert column(both, name) == [
            a + b for a, b in zip(column(four, name), column(two, name), strict=True)
        ]
    assert column(both, "order") == [0, 1, 2, 3]
    assert both.parameters == 6
    assert Plan.total([four]) == four


# --- as text, HTML and data ---


def test_text(four):
    lines = str(four).splitlines()
    assert "4 gate parameters" in lines[0] and "fewest circuits" in lines[0]
    rows = [line.replace("│", " ").split() for line in lines]
    assert ["0", "1", "1", "1", "exact", "1"] in rows
    assert ["3", "22", "49", "1", "exact", "585"] in rows
    assert all(name in str(four) for name in ("order", "circuits", "in all", "plain recursion"))
    assert "\x1b" not in str(four)  # no colours in files
    assert max(map(len, lines)) <= 100


def test_text_of_large_numbers():
    text = str(
        Plan.of(planner([(1.0,)] * 20, "shots"), up_to(range(20), 3), points=50, shots=10_000)
    )
    assert "least variance" in text
    assert "batch of 50" in text
    assert f"{50 * (1 + 40 + 40**2 + 40**3):,}" in text
    assert "…" not in text


@pytest.mark.parametrize("shots, expected", [(0, ["exact"] * 4), (10, ["10", "20", "10", "0"])])
def test_orders_that_cost_nothing(shots, expected):
    """With finite shots nothing is exact, and an order that is read off costs 0 shots."""
    plan = Plan.of(planner([(1.0,)], "shots"), up_to([0], 3), shots=shots)
    assert column(plan, "circuits") == [1, 2, 1, 0]
    assert column(plan, "batches") == [1, 1, 1, 0]
    rows = Cells(plan._repr_html_()).rows
    assert [row[4] for row in rows[1:]] == expected


def test_html(four):
    rows = Cells(four._repr_html_()).rows
    assert rows[0] == ["order", "circuits", "in all", "batches", "shots", "plain recursion"]
    assert rows[1:] == [
        ["0", "1", "1", "1", "exact", "1"],
        ["1", "8", "9", "1", "exact", "9"],
        ["2", "18", "27", "1", "exact", "73"],
        ["3", "22", "49", "1", "exact", "585"],
    ]
    assert "4 gate parameters" in four._repr_html_()


def test_adjoint_gradients_are_named():
    plan = Plan.of(planner([(1.0,)] * 2), up_to(range(2), 1), adjoint=True)
    assert plan.to_dict()["adjoint"] and "by adjoint gradients" in str(plan)
    assert Plan.total([plan, plan]).adjoint


def test_rich_prints_the_table(four):
    console = Console(width=100, file=io.StringIO())
    console.print(four)
    assert "585" in console.file.getvalue()


def test_data(four):
    data = four.to_dict()
    again = json.loads(json.dumps(data))
    assert [order["total"] for order in again["orders"]] == [1, 9, 27, 49]
    assert set(again["orders"][0]) == {field.name for field in dataclasses.fields(Order)}
    del again["orders"]
    assert again == {
        "parameters": 4,
        "objective": "circuits",
        "points": 1,
        "adjoint": False,
        "shared": [],
        "circuits": 49,
        "batches": 4,
        "jobs": 0,
        "shots": 0,
        "seconds": None,
        "recursion": 585,
    }


def test_quantum_processors_have_seconds(four):
    assert four.seconds is None and "QPU" not in str(four) + four._repr_html_()
    axes = up_to(range(4), 3)
    timed = Plan.of(planner([(1.0,)] * 4), axes, seconds=lambda circuits: 0.5 * circuits)
    assert [order.seconds for order in timed.orders] == [0.5, 4.0, 9.0, 11.0]
    assert timed.seconds == timed.circuits / 2 == timed.to_dict()["seconds"]
    for text in (str(timed), timed._repr_html_()):
        assert "QPU seconds" in text and "4.0" in text and "Not in them" in text
    both = Plan.total([timed, four])
    assert both.seconds == timed.seconds


def test_a_plan_cannot_be_changed(four):
    with pytest.raises(dataclasses.FrozenInstanceError):
        four.points = 2


def test_planning_twice_plans_once():
    shared = planner([(1.0,)] * 8)
    first = Plan.of(shared, up_to(range(8), 2))
    step = shared.root.request(multi_indices(range(8), 0))
    assert Plan.of(shared, up_to(range(8), 2)) == first
    assert shared.root.request(multi_indices(range(8), 0)) is step
