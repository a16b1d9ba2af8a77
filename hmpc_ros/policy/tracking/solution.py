"""What one solve of the tracking MPC produced."""

from dataclasses import dataclass

import numpy as np

from hmpc_ros.policy.protocol import SolveStatus


@dataclass(frozen=True, eq=False)
class TrackingSolution:
    """What one solve produced.

    Attributes:
        status: how the solve ended.
        input: (4,) thrust acceleration [m/s^2] and body rates [rad/s], inside the limits.
        states: (N+1, 14) plan, x = (p, v, q, a, w).
        inputs: (N, 4) plan.
        costates: (N, 14) multipliers of the dynamics, that of x_{k+1} in row k.
        input_multipliers: (N, 2, 4) of the bounds [lower, upper] on inputs.
        flat: the whole primal-dual iterate, see `TrackingSolver`.
        initial: (14,) the state solved at.
        parameters: (N+1, NP) of the stages.
        estimate: (5,) thrust acceleration, thrust ratio, disturbance used.
        iterations: interior-point iterations.
        acados_time, total_time: [s].
    """

    status: SolveStatus
    input: np.ndarray
    states: np.ndarray
    inputs: np.ndarray
    costates: np.ndarray
    input_multipliers: np.ndarray
    flat: np.ndarray
    initial: np.ndarray
    parameters: np.ndarray
    estimate: np.ndarray
    iterations: int
    acados_time: float
    total_time: float

    @property
    def ok(self) -> bool:
        """Whether the solution may be used."""
        return self.status is SolveStatus.SUCCESS
