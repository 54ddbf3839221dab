"""Results as HTML, which notebooks show."""

import jax
import numpy as np
from fitted import line

import rbn_jax as rbn
from rbn_jax.parameters.html import html_table


def test_texts_of_a_table_are_escaped():
    text = html_table("a < b", ["<x>"], [["&"]])
    assert "a &lt; b" in text
    assert "<th>&lt;x&gt;</th>" in text
    assert "<td>&amp;</td>" in text


def test_a_state_shows_the_rates_of_each_population():
    state = rbn.mean_field(rbn.NetworkParams(gei=0.9), "shift")
    text = state._repr_html_()
    rates = "".join(f"<td>{rate:.4g}</td>" for rate in np.asarray(state.rates))
    assert f"<td>firing rate [spikes/s]</td>{rates}" in text
    assert "<caption>a stable state, weak_inhibition</caption>" in text
    assert jax.eval_shape(lambda: state).rates.shape == (2,)


def test_states_of_a_batch_show_how_many_were_found_and_their_range():
    state = rbn.mean_field(rbn.NetworkParams(gei=np.array([1.1, 1.2, 1.3])), "white")
    text = state._repr_html_()
    assert "3 of 3 networks have a state" in text
    for rates in np.asarray(state.rates).T:
        assert f"<td>{rates.min():.4g} to {rates.max():.4g}</td>" in text


def test_many_fits_show_what_their_report_tells():
    targets = np.array([1.0, -1.0, 2.0])[:, None] * np.arange(6.0)
    bounds = {"a": (-1, 1), "b": (0, 3)}
    rows = rbn.fit(line, {"a": 0.0, "b": 1.0}, targets, bounds, sigma=0.1, rows=True, n_starts=2)
    text = rows._repr_html_()
    assert "line: 3 fits" in text
    assert "<th>median stderr</th>" in text
    assert "on a bound: 1, the first is 1" in text
    assert f"<td>b</td><td>{np.median(rows.values['b']):.6g}</td>" in text
