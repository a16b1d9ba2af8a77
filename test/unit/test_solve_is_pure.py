"""What the MPC answers depends on the state and its data alone."""

import numpy as np
from random_flight_states import random_deviation, reference_model, reference_weights

from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.mpc import Mpc


def test_no_solve_depends_on_those_before_it_to_the_last_bit():
    rng = np.random.default_rng(7)
    model = reference_model()
    mpc = Mpc(model, Limits(), reference_weights(model))
    states = [random_deviation(rng) for _ in range(40)]
    first = [mpc.solve_deviation(state) for state in states]
    assert any(np.any(solution.slacks > 1e-6) for solution in first)
    for i in rng.permutation(len(states)):
        np.testing.assert_array_equal(mpc.solve_deviation(states[i]).flat, first[i].flat)
    other = Mpc(model, Limits(), reference_weights(model))
    for state, solution in zip(states[::-1], first[::-1], strict=True):
        np.testing.assert_array_equal(other.solve_deviation(state).flat, solution.flat)
