"""Public names of rbn_jax, and the modules that define them.

This file is the one list of them: type checkers and editors read it, and so does `__init__.py`.
"""

from rbn_jax import helper as helper
from rbn_jax import nest as nest
from rbn_jax import plot as plot
from rbn_jax import rates as rates
from rbn_jax import reductions as reductions
from rbn_jax import spikes as spikes
from rbn_jax.clusters import ClusterFactors as ClusterFactors
from rbn_jax.clusters import ClusterMatrices as ClusterMatrices
from rbn_jax.clusters import cluster_factors as cluster_factors
from rbn_jax.clusters import cluster_matrices as cluster_matrices
from rbn_jax.dynamics import Dynamics as Dynamics
from rbn_jax.dynamics import network_states as network_states
from rbn_jax.dynamics import population_dynamics as population_dynamics
from rbn_jax.dynamics import population_spikes as population_spikes
from rbn_jax.dynamics import volley_rate as volley_rate
from rbn_jax.fitting import FitResult as FitResult
from rbn_jax.fitting import FitRows as FitRows
from rbn_jax.fitting import Free as Free
from rbn_jax.fitting import fit as fit
from rbn_jax.network import NetworkParams as NetworkParams
from rbn_jax.psp import PspIntegrals as PspIntegrals
from rbn_jax.psp import PspTimeConstants as PspTimeConstants
from rbn_jax.psp import PspTimes as PspTimes
from rbn_jax.psp import PspTrace as PspTrace
from rbn_jax.psp import postsynaptic_current_to_potential as postsynaptic_current_to_potential
from rbn_jax.psp import postsynaptic_potential_to_current as postsynaptic_potential_to_current
from rbn_jax.psp import psp_area as psp_area
from rbn_jax.psp import psp_half_width as psp_half_width
from rbn_jax.psp import psp_integrals as psp_integrals
from rbn_jax.psp import psp_rise_time as psp_rise_time
from rbn_jax.psp import psp_time_constants as psp_time_constants
from rbn_jax.psp import psp_time_to_peak as psp_time_to_peak
from rbn_jax.psp import psp_times_at_shares as psp_times_at_shares
from rbn_jax.psp import psp_trace as psp_trace
from rbn_jax.psp import psp_waveform as psp_waveform
from rbn_jax.psp import synaptic_time_constant as synaptic_time_constant
from rbn_jax.rates import ClusterState as ClusterState
from rbn_jax.rates import MeanField as MeanField
from rbn_jax.rates import Populations as Populations
from rbn_jax.rates import calibrate as calibrate
from rbn_jax.rates import cluster_branches as cluster_branches
from rbn_jax.rates import cluster_gain as cluster_gain
from rbn_jax.rates import cluster_rate_cv as cluster_rate_cv
from rbn_jax.rates import cluster_state as cluster_state
from rbn_jax.rates import cluster_states as cluster_states
from rbn_jax.rates import clustered as clustered
from rbn_jax.rates import critical_rep as critical_rep
from rbn_jax.rates import firing_rates as firing_rates
from rbn_jax.rates import fixed_points as fixed_points
from rbn_jax.rates import mean_field as mean_field
from rbn_jax.rates import siegert_rate as siegert_rate
from rbn_jax.recordings import spike_statistics as spike_statistics
from rbn_jax.sensitivity import elasticity as elasticity
from rbn_jax.sensitivity import jacobian as jacobian
from rbn_jax.sweeps import sample as sample
from rbn_jax.sweeps import store_status as store_status
from rbn_jax.sweeps import sweep as sweep
from rbn_jax.tables import table as table
from rbn_jax.weights import calculate_RBN_weights as calculate_RBN_weights
from rbn_jax.weights import rheobase_current as rheobase_current
from rbn_jax.weights import synaptic_weights as synaptic_weights

__version__: str
