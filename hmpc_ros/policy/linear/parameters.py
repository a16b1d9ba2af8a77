"""The linear MPC's parameters: cost weights (learnable) and prediction model."""

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import NU, NX
from hmpc_ros.policy.linear.weights import N_TERMINAL, Weights
from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace


def space(q_max: float = 1e3, r_max: float = 1e3, p_max: float = 1e4) -> ParameterSpace:
    """Return the blocks, with bounds on the magnitude of the weights' square roots.

    Only q^2, r^2 and L L' matter: the bounds are symmetric.
    """
    entries = NX * (NX + NU + 1)
    return ParameterSpace(
        (
            Block('q', (NX,), -q_max, q_max, meaning='square roots of the state weights'),
            Block('r', (NU,), -r_max, r_max, meaning='square roots of the input weights'),
            Block('p', (N_TERMINAL,), -p_max, p_max, meaning='factor of the terminal weight'),
            Block('model', (entries,), meaning='A, B and c of the prediction', learnable=False),
        )
    )


SPACE = space()


def parameters_of(weights: Weights, model: LinearModel) -> Parameters:
    """Return weights and prediction model as one object."""
    return Parameters(SPACE, weights.theta, {'model': model.entries})
