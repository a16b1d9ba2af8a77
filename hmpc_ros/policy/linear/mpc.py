"""The QP-MPC as one class: a state and a goal in, a checked solution out."""

import math
import time
from dataclasses import dataclass

import numpy as np

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import NU, NX
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.limits import BEYOND_MEASURE, BOUNDED_STATES, N_BOUNDED, Limits
from hmpc_ros.policy.linear.qp_solver import AcadosQp, QpDimensions, SolutionLayout, SolverOptions
from hmpc_ros.policy.linear.weights import SPACE, Weights, parameters_of
from hmpc_ros.policy.parameters import Parameters, ParameterSpace
from hmpc_ros.policy.protocol import SolveStatus

HORIZON = 12  # steps


@dataclass(frozen=True, eq=False)
class Solution:
    """What one solve produced, in deviations from the goal and from hover."""

    status: SolveStatus  #: how the solve ended
    input: np.ndarray  #: (4,) rotor speeds to fly [rad/s], absolute, inside the limits
    flat: np.ndarray  #: (n,) the whole primal-dual solution; the arrays below are views of it
    layout: SolutionLayout  #: where in ``flat`` each of them lies
    iterations: int  #: interior-point iterations
    acados_time: float  #: time acados itself needed [s]
    total_time: float  #: time of the whole call [s]
    #: what the MPC was not shown of the way to the goal (3,) [m], see `Limits.shown`; None where it
    #: saw all of it
    unseen: np.ndarray | None = None

    @property
    def ok(self) -> bool:
        """Whether the solution may be used."""
        return self.status is SolveStatus.SUCCESS

    def _part(self, index: int) -> np.ndarray:
        return self.flat[self.layout.slices[index]].reshape(self.layout.shapes[index])

    @property
    def states(self) -> np.ndarray:
        """Predicted state deviations (N+1, 12), from the goal that the MPC was shown."""
        return self._part(0)

    @property
    def inputs(self) -> np.ndarray:
        """Planned input deviations (N, 4) [rad/s]."""
        return self._part(1)

    @property
    def slacks(self) -> np.ndarray:
        """Violations (N, 2, 9) of the soft bounds [lower, upper], stages 1..N."""
        return self._part(2)

    @property
    def input_multipliers(self) -> np.ndarray:
        """Multipliers (N, 2, 4) of the rotor limits [lower, upper]."""
        return self._part(3)

    @property
    def state_multipliers(self) -> np.ndarray:
        """Multipliers (N, 2, 9) of the soft bounds [lower, upper], stages 1..N."""
        return self._part(4)

    @property
    def slack_multipliers(self) -> np.ndarray:
        """Multipliers (N, 2, 9) of ``slack >= 0``."""
        return self._part(5)


class Mpc:
    """The policy ``u = MPC(x, theta)``: the first input of a QP's plan, solved by acados.

    In deviations from the goal and from hover, with s_k >= 0 beyond the soft bounds:

        min   sum_{k<N} (x_k' Q x_k + u_k' R u_k) + x_N' P x_N + sum_{k=1..N} (l' s_k + c' s_k^2)
        s.t.  x_{k+1} = A x_k + B u_k + c,  rotor limits on u_k,  |x_k| <= x_max + s_k

    Weights, limits and the model are data of a solver that is generated once: changing them costs
    microseconds and never a rebuild.
    """

    def __init__(
        self,
        model: LinearModel,
        limits: Limits,
        weights: Weights,
        horizon: int = HORIZON,
        options: SolverOptions | None = None,
    ) -> None:
        """Load (or build, once per machine) the solver and set its data.

        Raises:
            ValueError: the horizon is not positive, or hover is outside the rotor limits.
            AcadosMissingError, CodeGenerationError: see `AcadosQp`.
        """
        if horizon < 1:
            raise ValueError(f'horizon = {horizon} must be at least 1')
        self.horizon = int(horizon)
        limits.input_range(model.hover_input)
        dimensions = QpDimensions(NX, NU, self.horizon, BOUNDED_STATES.start, N_BOUNDED)
        self._qp = AcadosQp(dimensions, options)
        self.layout = SolutionLayout.of(dimensions)
        self._inputs_start = self.layout.slices[1].start
        self.limits = limits
        self._space = SPACE
        self._fixed: object = None  # the blocks that the model was last taken from
        self._fixed_model: LinearModel | None = None
        self.set_model(model)
        self.set_weights(weights)

    @classmethod
    def of(cls, parameters: Parameters, own: LinearModel, limits: Limits, horizon: int) -> 'Mpc':
        """Make the MPC of these parameters, with time step and hover of an own model.

        Raises:
            ValueError, AcadosMissingError, CodeGenerationError: as the constructor.
        """
        model = own.with_entries(parameters.fixed['model'])
        made = cls(model, limits, Weights.of(parameters), horizon)
        made._space = parameters.space
        return made

    @property
    def parameters(self) -> Parameters:
        """Cost weights and prediction model."""
        return parameters_of(self.weights, self.model, self._space)

    @property
    def space(self) -> ParameterSpace:
        """What of the parameters is learned, as they were given last."""
        return self._space

    def use(self, parameters: Parameters) -> None:
        """Fly with other weights and another model from the next solve on."""
        if parameters.fixed is not self._fixed or self.model is not self._fixed_model:
            entries = parameters.fixed['model']
            if not np.array_equal(entries, self.model.entries):
                self.set_model(self.model.with_entries(entries))
            self._fixed, self._fixed_model = parameters.fixed, self.model
        self._space = parameters.space
        weights = Weights.of(parameters)
        if not weights.same_as(self.weights):
            self.set_weights(weights)

    def set_model(self, model: LinearModel) -> None:
        """Predict with another model from the next solve on.

        Raises:
            ValueError: the model's hover input is outside the rotor limits; the old model stays.
        """
        self._u_min, self._u_max = self.limits.input_range(model.hover_input)
        self.model = model
        self._qp.set_model(model.A, model.B, model.c)
        self._qp.set_bounds(self._u_min, self._u_max, self.limits.state_max)

    def set_weights(self, weights: Weights) -> None:
        """Solve with other cost weights from now on."""
        self.weights = weights
        stage = np.zeros((NX + NU, NX + NU))
        # acados minimises y' W y / 2.
        stage[:NX, :NX] = 2 * weights.state_weight
        stage[NX:, NX:] = 2 * weights.input_weight
        linear, quadratic = weights.slack
        self._qp.set_weights(stage, 2 * weights.terminal_weight, linear, 2 * quadratic)

    def set_limits(self, limits: Limits) -> None:
        """Solve with other bounds from now on.

        Raises:
            ValueError: hover is outside the rotor limits; the old limits stay.
        """
        self._u_min, self._u_max = limits.input_range(self.model.hover_input)
        self.limits = limits
        self._qp.set_bounds(self._u_min, self._u_max, limits.state_max)

    def solve(self, x: np.ndarray, goal: Goal) -> Solution:
        """Solve the MPC's QP at a measured state (12,), world frame.

        Look at the solution's ``status`` before use. After a failure the solver's memory is reset,
        so that the next solve does not inherit anything.
        """
        started = time.perf_counter()
        return self.solve_deviation(goal.deviation(x), started)

    def solve_deviation(self, deviation: np.ndarray, started: float | None = None) -> Solution:
        """Solve at a state in the goal frame (12,); see `solve`."""
        if started is None:
            started = time.perf_counter()
        # ACADOS_INFTY: a bound from here on is none, also that which holds x_0 in its place, and
        # acados v0.4.0 never takes it up again.
        if not math.hypot(*deviation.tolist()) < BEYOND_MEASURE:
            # HPIPM would only burn its iterations on it, and poison its memory.
            flat = np.full(self.layout.size, np.nan)
            return self._failure(SolveStatus.INVALID_STATE, flat, 0, 0.0, started)
        deviation, unseen = self.limits.shown(deviation)
        qp = self._qp
        status, qp_status, iterations, acados_time, flat = qp.solve(deviation)
        if status:
            return self._failure(SolveStatus.SOLVER_ERROR, flat, iterations, acados_time, started)
        if qp_status or iterations >= qp.options.qp_max_iterations:
            return self._failure(SolveStatus.NOT_CONVERGED, flat, iterations, acados_time, started)
        if not _all_finite(flat):
            return self._failure(SolveStatus.NOT_FINITE, flat, iterations, acados_time, started)
        start = self._inputs_start
        # The interior point keeps its bounds to within its tolerance; a rotor's is kept exactly.
        u = np.minimum(np.maximum(flat[start : start + NU], self._u_min), self._u_max)
        u += self.model.hover_input
        total_time = time.perf_counter() - started
        return Solution(
            SolveStatus.SUCCESS, u, flat, self.layout, iterations, acados_time, total_time, unseen
        )

    def reset(self) -> None:
        """Forget the last solution, as at the beginning of a flight."""
        self._qp.reset()

    def _failure(
        self,
        status: SolveStatus,
        flat: np.ndarray,
        iterations: int,
        acados_time: float,
        started: float,
    ) -> Solution:
        self._qp.reset()
        u = np.full(NU, np.nan)
        total_time = time.perf_counter() - started
        return Solution(status, u, flat, self.layout, iterations, acados_time, total_time)


def _all_finite(numbers: np.ndarray) -> bool:
    """Tell whether all numbers are finite: a dot product, and a closer look only if it is not."""
    return math.isfinite(numbers.dot(numbers)) or bool(np.isfinite(numbers).all())
