"""What one solve of the tracking MPC produced."""

from dataclasses import dataclass

import numpy as np

from hmpc_ros.policy.protocol import SolveStatus


@dataclass(frozen=True, eq=False)
class TrackingSolution:
    """What one solve produced.

    Attributes:
        acados_time, total_time: [s].
    """

    status: SolveStatus  #: how the solve ended
    input: np.ndarray  #: (4,) thrust acceleration [m/s^2] and body rates [rad/s], inside the limits
    states: np.ndarray  #: (N+1, 14) plan, x = (p, v, q, a, w)
    inputs: np.ndarray  #: (N, 4) plan
    costates: np.ndarray  #: (N, 14) multipliers of the dynamics, that of x_{k+1} in row k
    input_multipliers: np.ndarray  #: (N, 2, 4) of the bounds [lower, upper] on inputs
    flat: np.ndarray  #: the whole primal-dual iterate, see `TrackingSolver`
    initial: np.ndarray  #: (14,) the state solved at
    parameters: np.ndarray  #: (N+1, NP) of the stages
    estimate: np.ndarray  #: (5,) thrust acceleration, thrust ratio, disturbance used
    iterations: int  #: interior-point iterations
    acados_time: float
    total_time: float

    @property
    def ok(self) -> bool:
        """Whether the solution may be used."""
        return self.status is SolveStatus.SUCCESS
