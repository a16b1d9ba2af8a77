"""Random models, weights and states for tests of the MPC: where no bound, some, or many act."""

import numpy as np

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import Quadcopter, QuadcopterParameters
from hmpc_ros.policy.linear.weights import Weights

SPREAD = np.repeat((3.0, 1.0, 0.3, 0.2), 3)  # m, m/s, rad, rad/s


def reference_model():
    """Exact Euler Jacobians at hover."""
    return Quadcopter(QuadcopterParameters()).linearise()


def reference_weights(model):
    """The start value of the reference experiment."""
    q = np.sqrt(np.repeat((1.0, 0.1), 6))
    return Weights.for_model(model, q, np.sqrt(np.full(4, 0.01)))


def random_model(rng, drift=0.01):
    """Something like an identified model: entries a few per cent off, and a drift c."""
    exact = reference_model()
    return LinearModel(
        A=exact.A * (1 + 0.02 * rng.standard_normal(exact.A.shape)),
        B=exact.B * (1 + 0.05 * rng.standard_normal(exact.B.shape)),
        c=drift * SPREAD * rng.standard_normal(12),
        time_step=exact.time_step,
        hover_input=exact.hover_input,
    )


def random_weights(rng, model):
    """The start weights with every number changed by about 20 per cent."""
    return Weights.from_theta(
        reference_weights(model).theta * np.exp(0.2 * rng.standard_normal(94))
    )


def random_deviation(rng):
    """A state in the goal frame: near the goal, in flight, or far off."""
    return rng.choice((0.02, 0.2, 1.0)) * SPREAD * rng.standard_normal(12)
