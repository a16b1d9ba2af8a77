"""How near a solve is to where its derivative jumps."""

from collections.abc import Sequence

import numpy as np

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import NU
from hmpc_ros.policy.linear import sensitivity
from hmpc_ros.policy.linear.limits import SLACK_L1, Limits
from hmpc_ros.policy.linear.mpc import Solution
from hmpc_ros.policy.linear.weights import Weights


def activity_margin(
    model: LinearModel, weights: Weights, limits: Limits, solutions: Sequence[Solution]
) -> np.ndarray:
    """Return how far each solve is from a kink of u_0, where a bound begins or ceases to act (T,).

    Strict complementarity, as a dimensionless number: of every bound either the distance to it
    or its multiplier is clearly positive; the larger of the two counts, and the smallest such
    number over all bounds is the margin. Distances and slacks are measured in bounds (inputs:
    in the range of the rotor speeds), soft multipliers in the slope of the penalty, hard ones in
    the pull ``2 R_ii * range``. At 0 the active set is degenerate: u_0 has one-sided derivatives
    only, and `sensitivity.factorise` returns one between them.
    """
    sides = sensitivity._Sides.of(
        sensitivity._Parts.of(*sensitivity._stack(solutions)), model, limits
    )
    u_range = (limits.rotor_max - limits.rotor_min) * np.ones(NU)
    u_pull = 2 * np.diag(weights.input_weight) * u_range
    x_range = limits.state_max
    pairs = (
        (sides.u_distance / u_range[:, None], sides.u_multiplier / u_pull[:, None]),
        (sides.x_distance / x_range[:, None], sides.x_multiplier / SLACK_L1),
        (sides.slack / x_range[:, None], sides.slack_multiplier / SLACK_L1),
    )
    return np.min([np.maximum(*pair).min(axis=(0, 1, 2)) for pair in pairs], axis=0)
