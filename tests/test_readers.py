"""The parameter dictionaries of published programs, as NetworkParams reads them.

Keys and values are those of nawrotlab/ClusteredNetwork_pub (commit 6e7a107, src/defaultSimulate.py
and fig_codes/) and of schmitfe/EI-Clustering (commit 1df8e96, NEST/EI_clustered_network/).
"""

import numpy as np
import pytest
from pages import read_page

import rbn_jax as rbn
from rbn_jax.cli import run
from rbn_jax.dictionaries import READ_AS
from rbn_jax.network import PRESETS

ROSTAMI_DEFAULTS = {
    "eps": 2.220446049250313e-16,
    "N_E": 4000,
    "N_I": 1000,
    "ps": np.array([[0.2, 0.5], [0.5, 0.5]]),
    "js": np.full((2, 2), np.nan),
    "ge": 1.2,
    "gi": 1.0,
    "gie": 1.0,
    "Q": 1,
    "jplus": np.ones((2, 2)),
    "delay": 0.1,
    "s": 1.0,
    "fixed_indegree": False,
    "neuron_type": "iaf_psc_exp",
    "E_L": 0.0,
    "C_m": 1.0,
    "tau_E": 20.0,
    "tau_I": 10.0,
    "t_ref": 5.0,
    "V_th_E": 15.0,
    "V_th_I": 15.0,
    "V_r": 0.0,
    "I_xE": 2.0,
    "I_xI": 1.0,
    "delta_I_xE": 0.0,
    "delta_I_xI": 0.0,
    "I_th_E": 2.13,
    "I_th_I": 1.24,
    "V_m": "rand",
    "tau_syn_ex": 3.0,
    "tau_syn_in": 2.0,
    "lambda_0": 1000.0,
    "Delta_V": 1e-41,
    "g_L_E": 0.05,
    "g_L_I": 0.1,
    "q_sfa": [0.0],
    "tau_sfa": [2.0],
    "Q_AdapI": 0.0,
    "tau_stc": [179.0],
    "q_stc": [0.0],
    "DistParams": {"distribution": "normal", "sigma": 0.0, "fraction": False},
    "syn_params": {"U": 0.2, "u": 0.0, "tau_rec": 120.0, "tau_fac": 0.0},
    "dt": 0.1,
    "simtime": 1000.0,
    "warmup": 0.0,
    "record_voltage": False,
    "record_from": "all",
    "recording_interval": 0.1,
    "return_weights": False,
    "n_jobs": 1,
    "stim_clusters": None,
    "multi_stim_clusters": None,
    "stim_amp": 0.0,
    "stim_starts": [],
    "stim_ends": [],
}
ROSTAMI_FIGURE_1 = {
    **ROSTAMI_DEFAULTS,
    "I_th_E": 2.14,
    "I_th_I": 1.26,
    "ff_window": 400,
    "min_vals_cv2": 1,
    "stim_length": 1000,
    "isi": 1000,
    "isi_vari": 200,
    "cut_window": [-500, 1500],
    "rate_kernel": 50.0,
    "warmup": 500,
    "trials": 20,
    "randseed": 0,
    "Q": 50,
    "jipfactor": 0.75,
    "jep": 11.0,
    "jplus": np.array([[11.0, 8.5], [8.5, 8.5]]),
    "stim_clusters": [0, 1, 2],
    "stim_amp": 0.2,
    "portion_I": 1,
}
SCHMITT = {
    "neuron_type": "iaf_psc_exp",
    "E_L": 0.0,
    "C_m": 1.0,
    "tau_E": 20.0,
    "tau_I": 10.0,
    "t_ref": 5.0,
    "V_th_E": 20.0,
    "V_th_I": 20.0,
    "V_r": 0.0,
    "tau_syn_ex": 5.0,
    "tau_syn_in": 5.0,
    "delay": 0.1,
    "I_th_E": 3.25,
    "I_th_I": 1.82,
    "delta_I_xE": 0.0,
    "delta_I_xI": 0.0,
    "V_m": "rand",
    "N_E": 8000,
    "N_I": 2000,
    "n_clusters": 20,
    "baseline_conn_prob": np.array([[0.3, 0.3], [0.3, 0.3]]),
    "gei": 1.2,
    "gie": 1.0,
    "gii": 1.0,
    "s": 1.0,
    "connection_rule": "pairwise_poisson",
    "kappa": 1.0,
    "rj": 0.78,
    "rep": 4.5,
    # sim_params.py and stimulus_params.py
    "warmup": 1000.0,
    "simtime": 5000.0,
    "dt": 0.1,
    "randseed": 2,
    "n_vp": 4,
    "stim_clusters": None,
    "stim_amp": 0.15,
    "stim_starts": [2000, 6000],
    "stim_ends": [3500, 7500],
}
OTHER_ROSTAMI = {
    "N_E": 840,
    "N_I": 240,
    "Q": 12,
    "ps": np.array([[0.15, 0.4], [0.3, 0.6]]),
    "ge": 1.4,
    "gi": 0.9,
    "gie": 1.1,
    "s": 1.3,
    "tau_E": 17.0,
    "tau_I": 8.0,
    "V_th_E": 14.0,
    "V_th_I": 16.0,
    "E_L": -2.0,
    "jplus": np.array([[2.7, 2.02], [2.02, 2.02]]),
    "I_th_E": None,
    "I_xE": 1.7,
}
OTHER_SCHMITT = {"gei": 1.4, "gie": 0.8, "gii": 0.9, "s": 1.2, "tau_E": 18.0}


def read(*dictionaries, unknown="raise"):
    """Read the first dictionary, changed by the others."""
    merged = {}
    for dictionary in dictionaries:
        merged |= dictionary
    return rbn.NetworkParams.from_mapping(merged, unknown=unknown)


# js from `calc_js` in src/ClusterHelper.py and from `calculate_RBN_weights` in EI-Clustering's
# helper.py; weights within and between clusters [pA] as their connect() handed them to a recorder
# in place of NEST: EE within, EE between, EI within, EI between
JS = {
    "rostami": [
        [17.470513622895336, -46.49578794053582],
        [13.244357637822453, -70.9306206752382],
    ],
    "other rostami": [
        [22.643976226874987, -57.248809960429874],
        [24.611426258255644, -51.24057845502362],
    ],
    "schmitt": [
        [12.961075314931104, -62.213161511669306],
        [16.329931618554518, -65.31972647421807],
    ],
    "other schmitt": [
        [13.363397004328311, -74.83502322423854],
        [13.063945294843615, -47.030203061437014],
    ],
}
READ = {
    "rostami": (ROSTAMI_FIGURE_1,),
    "other rostami": (ROSTAMI_DEFAULTS, OTHER_ROSTAMI),
    "schmitt": (SCHMITT,),
    "other schmitt": (SCHMITT, OTHER_SCHMITT),
}
CLUSTER_WEIGHTS = {
    "rostami": [2.7177741037834746, 0.19664784795464846, -5.589172781391978, -0.556904370774951],
    "other rostami": [
        2.4185102313586793,
        0.7573112845668593,
        -4.574559780802616,
        -2.0546402615846135,
    ],
}


@pytest.mark.parametrize("name", READ)
def test_the_weights_are_those_of_the_published_code(name, x64):
    net = read(*READ[name])
    np.testing.assert_allclose(rbn.calculate_RBN_weights(net), JS[name], rtol=2e-15)


@pytest.mark.parametrize("name", CLUSTER_WEIGHTS)
def test_the_weights_of_clusters_are_those_of_the_published_code(name, x64):
    net = read(*READ[name])
    weights = np.asarray(net.weights())
    within = np.array([net.rep, 1 + (net.rep - 1) * net.rj])
    between = (net.n_clusters - within) / (net.n_clusters - 1)
    factors = np.array([within, between]).T.ravel()
    actual = factors * np.repeat(weights[0], 2)
    np.testing.assert_allclose(actual, CLUSTER_WEIGHTS[name], rtol=2e-15)


def test_the_dictionary_of_rostami_is_its_preset():
    net = read(ROSTAMI_FIGURE_1)
    assert net == rbn.NetworkParams.preset("rostami2024")
    assert (net.V_th_E, net.V_th_I, net.tau_syn_ex, net.tau_syn_in) == (15.0, 15.0, 3.0, 2.0)
    assert (net.I_th_E, net.I_th_I) == (2.14, 1.26)
    assert (net.n_clusters, net.rep, net.rj, net.kappa) == (50.0, 11.0, 0.75, 1.0)
    assert net.connection_rule == "pairwise_bernoulli"


def test_the_defaults_of_rostami_are_an_unclustered_network():
    net = read(ROSTAMI_DEFAULTS)
    assert (net.n_clusters, net.rep, net.I_th_E, net.I_th_I) == (1.0, 1.0, 2.13, 1.24)
    assert read(ROSTAMI_DEFAULTS, {"jplus": np.full((2, 2), 3.0)}) == net
    assert read(ROSTAMI_DEFAULTS, {"jplus": np.ones((2, 2)), "jep": 3.0}).rep == 3.0


def test_the_dictionary_of_schmitt_is_its_preset():
    net = read(SCHMITT)
    assert net == rbn.NetworkParams.preset("schmitt2026")
    assert (net.connection_rule, net.kappa, net.fixed_indegree) == ("pairwise_poisson", 1.0, False)
    assert (net.N_E, net.N_I, net.I_th_E, net.I_th_I) == (8000.0, 2000.0, 3.25, 1.82)
    assert (net.rep, net.rj, net.n_clusters) == (4.5, 0.78, 20.0)
    np.testing.assert_array_equal(net.baseline_conn_prob, np.full((2, 2), 0.3))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_and_what_was_read_survive_round_trips(name, tmp_path):
    net = rbn.NetworkParams.preset(name)
    assert rbn.NetworkParams.from_mapping(net.to_dict()) == net
    net.to_toml(tmp_path / "net.toml")
    assert rbn.NetworkParams.from_toml(tmp_path / "net.toml") == net


@pytest.mark.parametrize("name", ["rostami2024", "schmitt2026"])
def test_the_command_line_has_the_preset(name, capsys):
    assert run(["weights", "--preset", name, "--json"]) == 0
    assert '"params"' in capsys.readouterr().out
    assert run(["weights", "--help"]) == 0
    assert name in capsys.readouterr().out


def test_the_choices_of_schmitt_are_read_as_its_code_reads_them():
    assert read(SCHMITT, {"kappa": 0.5}).kappa == 0.5
    assert read(SCHMITT, {"kappa": None, "clustering": "probabilities"}).kappa == 0.0
    assert read(SCHMITT, {"kappa": None, "clustering": 0.25}).kappa == 0.25
    assert read(SCHMITT, {"kappa": None}).kappa == 1.0
    fixed = read(SCHMITT, {"connection_rule": "fixed_indegree"})
    assert (fixed.connection_rule, fixed.fixed_indegree) == ("fixed_indegree", True)
    assert rbn.NetworkParams.from_mapping(fixed.to_dict()) == fixed
    rule = {"connection_rule": np.array("Pairwise-Poisson")}
    assert read(SCHMITT, rule).connection_rule == "pairwise_poisson"
    assert read(SCHMITT, {"connection_rule": None}).connection_rule == "pairwise_bernoulli"


def test_the_matrix_of_factors_gives_rep_and_rj():
    clusters = {"Q": 50, "jplus": [[3.2, 2.65], [2.65, 2.65]]}
    net = read(clusters)
    np.testing.assert_allclose([net.rep, net.rj], [3.2, 0.75], rtol=1e-15)
    given = read(clusters, {"jep": 3.2, "jipratio": 0.75, "jipfactor": 0.75})
    assert (given.rep, given.rj) == (3.2, 0.75)
    unclustered = read({"Q": 50, "jplus": np.ones((2, 2)), "jipfactor": 0.75})
    assert (unclustered.rep, unclustered.rj) == (1.0, 0.75)
    pplus = {"clustering": "probabilities", "rep": 3.0, "pplus": [[3.0, 2.0], [2.0, 2.0]]}
    assert (read(pplus).rj, read(pplus).kappa) == (0.5, 0.0)
    assert read({"jplus": None, "pplus": None, "js": None}) == rbn.NetworkParams()


def test_a_rounded_matrix_is_taken_before_the_numbers_that_gave_it():
    # 1 + 0.0013 * 0.75 = 1.000975, which their code rounds to 5 decimals
    rounded = [[1.0013, 1.00098], [1.00098, 1.00098]]
    net = read({"Q": 20, "jep": 1.0013, "jipfactor": 0.75, "jplus": rounded})
    assert 1 + (net.rep - 1) * net.rj == pytest.approx(1.00098, abs=1e-15)


def test_currents_in_pa_are_read_where_those_in_rheobases_are_none(x64):
    net = read(ROSTAMI_DEFAULTS, OTHER_ROSTAMI)
    assert (net.I_th_E, net.I_th_I) == (pytest.approx(1.80625, rel=1e-15), 1.24)
    both = read(ROSTAMI_DEFAULTS, {"I_th_E": None, "I_th_I": None})
    rheobases = [
        rbn.rheobase_current(tau, both.E_L, both.V_th_E, both.C_m)
        for tau in (both.tau_E, both.tau_I)
    ]
    currents = np.array([both.I_th_E, both.I_th_I]) * rheobases
    np.testing.assert_allclose(currents, [2.0, 1.0], rtol=1e-15)


REFUSED = [
    ({"js": np.ones((2, 2))}, r"js=\[\[1.0, 1.0\], \[1.0, 1.0\]\]: given weights"),
    ({"delta_": 1.0}, "delta_=1.0: neurons with a stochastic threshold"),
    ({"delta": 1.0, "rho": 0.01}, "delta=1.0: neurons with a stochastic threshold"),
    ({"gei": 1.2, "ge": 1.3}, "gei=1.2 and ge=1.3: must agree; leave one of them out"),
    ({"Q": 20, "n_clusters": 10}, "Q=20 and n_clusters=10: must agree"),
    ({"jipratio": 0.7, "jipfactor": 0.8}, "jipratio=0.7 and jipfactor=0.8: must agree"),
    ({"jep": 3.0, "jplus": np.ones((2, 2))}, r"jep=3.0 and jplus\[0, 0\]=1.0: must agree"),
    ({"rj": 0.5, "jplus": [[3, 2.5], [2.5, 2.5]]}, r"rj=0.5 and jplus\[0, 1\]=2.5: must agree"),
    ({"jplus": [[3, 2], [2, 1]]}, "jplus=.*EI, IE and II must be equal"),
    ({"jplus": [[1, 2], [2, 2]]}, "jplus=.*without those of EE"),
    ({"jplus": np.ones((3, 2, 2))}, r"jplus has the shape \(3, 2, 2\): must be \(2, 2\)"),
    ({"jplus": "strong"}, "jplus='strong'.*number"),
    (
        {"jplus": np.ones((2, 2)), "kappa": 0.5},
        "jplus and kappa=0.5: jplus is read where kappa is 1",
    ),
    ({"pplus": np.ones((2, 2))}, "pplus and kappa=1.0: pplus is read where kappa is 0"),
    (
        {
            "clustering": "probabilities",
            "rep": 6.0,
            "rj": 0.5,
            "pplus": np.array([[6.0, 1 + 5**0.5], [1 + 5**0.5, 1 + 5**0.5]]),
        },
        r"rj=0.5 and pplus\[0, 1\]=3.23.*NEST's example has 1 \+ \(rep - 1\)\*\*rj",
    ),
    ({"clustering": 0.5, "kappa": 0.25}, "clustering=0.5 and kappa=0.25: must agree"),
    ({"I_xE": 2.0}, "I_xE=2.0: the programs read it only where I_th_E is None"),
    ({"I_th_E": None}, "I_th_E=None: must be a number"),
    ({"jipfactor": 0.0, "fixed_indegree": True}, "jipfactor=0 and fixed_indegree=True"),
    ({"connection_rule": "pairwise_poisson", "fixed_indegree": True}, "must agree"),
    ({"connection_rule": "all_to_all"}, "connection_rule='all_to_all': must be"),
]


@pytest.mark.parametrize("unknown", ["raise", "ignore"])
@pytest.mark.parametrize(("bad", "message"), REFUSED)
def test_what_no_field_represents_is_refused_by_name(bad, message, unknown):
    with pytest.raises(ValueError, match=message):
        read(bad, unknown=unknown)


def test_equal_values_under_two_names_are_no_conflict():
    net = read({"ge": 1.5, "gei": 1.5, "ps": [[0.1, 0.2], [0.3, 0.4]]})
    assert net.gei == 1.5
    assert read({"ps": net.baseline_conn_prob, "baseline_conn_prob": net.baseline_conn_prob}) == (
        net.replace(gei=1.2)
    )


def test_unknown_keys_are_ignored_on_request(tmp_path):
    message = r"unknown parameter 'jepp'; did you mean jep.*unknown=\"ignore\""
    with pytest.raises(ValueError, match=message):
        read({"jepp": 3.0})
    assert read({"jepp": 3.0, "ge": 1.5}, unknown="ignore") == rbn.NetworkParams(gei=1.5)
    with pytest.raises(ValueError, match="unknown='skip': must be 'raise' or 'ignore'"):
        read({}, unknown="skip")
    path = tmp_path / "net.toml"
    path.write_text("jepp = 3.0\nge = 1.5\nps = [[0.1, 0.2], [0.3, 0.4]]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"net\.toml: unknown parameter 'jepp'"):
        rbn.NetworkParams.from_toml(path)
    net = rbn.NetworkParams.from_toml(path, unknown="ignore")
    assert (net.gei, net.baseline_conn_prob[1, 0]) == (1.5, 0.3)
    with pytest.raises(ValueError, match=r"net\.toml: unknown='skip'"):
        rbn.NetworkParams.from_toml(path, unknown="skip")


def test_the_documentation_names_every_key_that_is_read():
    page = read_page("docs/nest.md")
    for key in READ_AS:
        assert f"`{key}`" in page, key
