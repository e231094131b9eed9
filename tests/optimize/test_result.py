"""What a minimisation found: its summary and its plot."""

import pickle
import re
import warnings

import numpy as np
import pytest

from qshift.optimize.result import Point, Result


def result(norms, curvature=None, circuits=8):
    history = [Point(np.array([0.1]), norm - 1, norm, None, circuits) for norm in norms]
    history[-1] = Point(np.array([0.1]), -1.0, norms[-1], curvature, circuits)
    return Result(np.array([0.1]), tuple(history), "newton", 1e-3)


@pytest.mark.parametrize(
    "found, message",
    [
        (result([1, 1e-4], 2.0), "converged after 1 step: the gradient norm is 0.0001"),
        (result([1, 2, 0], None), "converged after 2 steps: the gradient norm is 0"),
        (result([1e-4], -2.0), "but not to a minimum: .* lowest curvature -2. Start elsewhere"),
        (result([1e-4], 0.0), "converged after 0 steps"),
        (result([1e-4], None), "the start is a stationary point: .* newton does not find out"),
        (result([1, 0.5]), "not converged after 1 step: .* is 0.5, the tolerance 0.001"),
    ],
)
def test_the_message_says_how_it_ended(found, message):
    assert found.converged == found.message.startswith("converged")
    assert re.search(message, found.message)
    assert str(found) == f"newton: value -1, {found.message}"
    assert found.circuits == 8 * (found.steps + 1)


@pytest.mark.parametrize(
    "norms, lines", [([1, 0.1, 1e-4], 2), ([1, 0.0], 1), ([0.0], 1), ([1] * 99, 1)]
)
def test_the_plot_shows_values_and_gradient_norms(tmp_path, norms, lines):
    found = result(norms)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = found.plot(tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    above, below = figure.axes
    np.testing.assert_array_equal(above.lines[0].get_ydata(), [p.value for p in found.history])
    drawn = below.lines[0].get_ydata()
    np.testing.assert_array_equal(np.nan_to_num(drawn), norms)
    assert len(below.lines) == lines  # the tolerance is drawn where it is reached
    assert f"{found.circuits:,} circuits" in figure.get_suptitle()


def test_the_plot_says_what_was_minimized():
    figure = result([1, 0.1]).plot(title="energy.py:cost on simulator, 1,000 shots")
    first, second = figure.get_suptitle().splitlines()
    assert first == "energy.py:cost on simulator, 1,000 shots" and second.startswith(
        "newton: value"
    )


@pytest.mark.parametrize("norms", [[1, 0.5, 0.03], [1, 0.7, 0.4], [0.5, 0.45, 0.42]])
def test_short_logarithmic_axes_have_labels_in_plain_numbers(norms):
    figure = result(norms).plot()
    axis, (low, high) = figure.axes[1].yaxis, figure.axes[1].get_ylim()
    places = [place for place in axis.get_majorticklocs() if low <= place <= high]
    shown = axis.get_major_formatter().format_ticks(places)
    np.testing.assert_allclose([float(text) for text in shown], places, rtol=1e-5)
    assert len(shown) >= 3


def test_bands_of_errors():
    history = [Point(np.array([0.1]), v, 0.5, None, 8, None, 0.03, 0.2) for v in (1.0, -0.5, -0.9)]
    found = Result(np.array([0.1]), tuple(history), "adam", 1e-3)
    assert found.value_error == 0.03
    assert "value -0.9 +- 0.03," in str(found) and "-0.9 +- 0.03" in found._repr_html_()
    above, below = found.plot().axes
    (band,), (norms,) = above.collections, below.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(1 + 1.96 * 0.03)
    assert heights.min() == pytest.approx(-0.9 - 1.96 * 0.03)
    heights = norms.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(0.5 + 1.96 * 0.2) and heights.min() > 0
    assert not result([1, 0.1]).plot().axes[0].collections


def test_a_notebook_draws_the_plot_without_pyplot():
    figure = result([1, 0.1]).plot()
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert pickle.loads(pickle.dumps(figure)).get_suptitle() == figure.get_suptitle()


def test_a_notebook_shows_a_table():
    found = result([1, 0.1])
    page = found._repr_html_()
    assert f"<td>{found.circuits}</td>" in page and found.message in page
    assert "<td>-1</td>" in page and page.count("<tr>") == page.count("</tr>") == 4
