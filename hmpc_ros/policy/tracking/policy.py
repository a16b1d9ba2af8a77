"""The tracking policy: a measured state, a reference and a time in, a checked command out."""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hmpc_ros.plant.grey_box import GreyBox
from hmpc_ros.plant.reference.flatness import Drag, flat_states
from hmpc_ros.plant.reference.protocol import Reference, Samples
from hmpc_ros.plant.rigid_body import rotation_matrix
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.protocol import SolveStatus
from hmpc_ros.policy.tracking import model
from hmpc_ros.policy.tracking.derivative import TrackingDerivative, differentiate
from hmpc_ros.policy.tracking.observer import Observer
from hmpc_ros.policy.tracking.parameters import SPACE, TrackingLimits, TrackingParameters, refitted
from hmpc_ros.policy.tracking.solution import TrackingSolution
from hmpc_ros.policy.tracking.solver import TrackingSolver, TrackingSolverOptions

STAGE = model.STAGE
STAGE_TIME = 0.05  # s between the stages of the plan
FIRST_ITERATIONS = 10  # about the reference, where there is no last plan
LONGEST_GAP = 5  # control periods without a state, after which the observer skips
STALE = 0.2  # s without a state, after which the last plan is no beginning for the next
LEVEL_GAIN = 4.0  # 1/s, of the fallback's level attitude
_LARGEST = 1e6  # a state beyond this is no state


class Window(NamedTuple):
    """What is to be tracked from a time [s] on."""

    reference: Reference
    time: float


class TrackingPolicy:
    """Tracks references with thrust and body rates; everything it is told is run-time data."""

    def __init__(
        self,
        parameters: TrackingParameters,
        limits: TrackingLimits | None = None,
        time_step: float = 0.01,
        options: TrackingSolverOptions | None = None,
    ) -> None:
        """Load the solver (built once a machine); ``time_step`` is the control period [s]."""
        self.limits = limits or TrackingLimits()
        self.time_step = float(time_step)
        self._solver = TrackingSolver(options)
        self.horizon = self._solver.options.horizon
        self.observer = Observer(parameters)
        self.set_limits(self.limits)
        self.set_parameters(parameters)
        self._stage_times = STAGE_TIME * np.arange(self.horizon + 1)
        self.reset()

    def set_parameters(self, parameters: TrackingParameters) -> None:
        """Solve with other weights, model and observer gains from now on."""
        self.named = parameters
        p = self._solver.parameters
        for name in set(STAGE) & set(vars(parameters)):
            p[:, STAGE[name]] = getattr(parameters, name)
        # The last stage costs `terminal` times as much; its weights are the square roots.
        weights = slice(STAGE['position'].start, STAGE['rate_commands'].stop)
        p[-1, weights] *= math.sqrt(float(parameters.terminal[0]))
        p[:, STAGE['time_step']] = STAGE_TIME
        self.observer.set_parameters(parameters)

    @property
    def parameters(self) -> Parameters:
        """What it flies with; `named` is the same by name."""
        return Parameters(SPACE, self.named.theta)

    def use(self, parameters: Parameters) -> None:
        """Fly with other parameters of `SPACE` from now on, where they are others.

        Raises:
            ValueError: an entry is outside its range.
        """
        if not np.array_equal(self.named.theta, parameters.theta):
            self.set_parameters(TrackingParameters.from_theta(parameters.theta))

    def set_limits(self, limits: TrackingLimits) -> None:
        """Command within other limits from now on."""
        self.limits = limits
        self._low, self._high = limits.input_min, limits.input_max
        self._solver.set_bounds(self._low, self._high)
        self._solver.parameters[:, STAGE['tilt_limit']] = 1 - math.cos(limits.tilt)
        self._solver.parameters[:, STAGE['speed_limit']] = limits.speed

    def reset(self) -> None:
        """Begin a flight: no last plan, estimates as the model has them."""
        self._solver.reset()
        self._warm = False
        self._q0 = np.zeros(4)  # attitude that the last solve began at
        self._last: tuple[np.ndarray, float] | None = None  # measured state, time
        self._command: np.ndarray | None = None
        self._plan: tuple[np.ndarray, float] | None = None
        self.observer.reset()

    def sent(self, u: np.ndarray | None) -> None:
        """Tell what was commanded (4,) instead of the last solution; None: nothing is known."""
        self._command = None if u is None else np.array(u, dtype=float)

    def solve(self, x: np.ndarray, window: Window) -> TrackingSolution:
        """Answer a measured state (13,) at a time [s] of a reference.

        After a failure the solver's memory is reset; nothing is inherited.
        """
        started, (reference, t) = time.perf_counter(), window
        x = np.array(x, dtype=float)
        size = float(np.linalg.norm(x[6:10]))
        if not (np.abs(x).max() < _LARGEST and abs(size - 1) < 0.1):
            return self._failure(SolveStatus.INVALID_STATE, np.zeros(model.NX), started)
        x[6:10] /= size
        self._observe(x, t)
        if self._last is not None and not 0 <= t - self._last[1] <= STALE:
            self._warm = False
        self._last = (x, t)

        estimate = self.observer.estimate.copy()
        samples = self._within_reach(reference.sample(t + self._stage_times), x)
        p = self._solver.parameters
        p[:, : model.N_SAMPLE] = np.column_stack([*samples])
        p[:, STAGE['snap_r']] = np.gradient(samples.jerk, STAGE_TIME, axis=0)
        p[:, STAGE['thrust_ratio']] = estimate[1]
        p[:, STAGE['disturbance']] = estimate[2:]
        initial = np.concatenate((x[:10], estimate[:1], x[10:]))
        turns = 1
        if not self._warm:
            self._start(samples, initial)
            turns = FIRST_ITERATIONS
        elif float(initial[6:10] @ self._q0) < 0:
            initial[6:10] *= -1  # the plan's sign: q and -q are one attitude
        acados_time = 0.0
        for _ in range(turns):
            status, qp_status, iterations, took, flat = self._solver.iterate(initial)
            acados_time += took
            if status or qp_status or not np.isfinite(flat).all():
                reason = SolveStatus.SOLVER_ERROR if status else SolveStatus.NOT_CONVERGED
                return self._failure(reason, initial, started, iterations)
        self._warm, self._q0 = True, initial[6:10]
        states, inputs, costates, multipliers = self._solver.split(flat)
        u = np.minimum(np.maximum(inputs[0], self._low), self._high)
        self._command, self._plan = u.copy(), (inputs, t)
        total = time.perf_counter() - started
        return TrackingSolution(
            SolveStatus.SUCCESS, u, states, inputs, costates, multipliers, flat, initial,
            p.copy(), estimate, iterations, acados_time, total,
        )  # fmt: skip

    def differentiate(self, solutions: Sequence[TrackingSolution]) -> TrackingDerivative:
        """Differentiate the commands of a flight's solves, made under the parameters of now.

        Raises:
            ValueError: there are none.
            CodeGenerationError: the derivative's code cannot be compiled.
        """
        return differentiate(solutions, self.named, self.limits)

    @staticmethod
    def refit(parameters: Parameters, box: GreyBox) -> Parameters:
        """Return the parameters with a prediction model that agrees with a grey box."""
        found = refitted(TrackingParameters.from_theta(parameters.theta), box)
        return parameters.with_theta(found.theta)

    def fallback(self, x: np.ndarray | None, window: Window) -> np.ndarray:
        """Return a command (4,) without a solve: the last plan at that time, then level hover.

        Args:
            x: measured state (13,) if there is a finite one; else level hover is blind.
            window: as of `solve`.
        """
        t = window.time
        if self._plan is not None:
            inputs, begun = self._plan
            k = max(0, int((t - begun) / STAGE_TIME + 1e-6))
            if k < min(5, len(inputs)):
                return np.minimum(np.maximum(inputs[k], self._low), self._high)
        return self.level(x)

    def level(self, x: np.ndarray | None) -> np.ndarray:
        """Return the command (4,) of level attitude with hover thrust, as estimated."""
        rates, upright = np.zeros(3), 1.0
        if x is not None and np.isfinite(x).all():
            # The rotation vector from the thrust axis to the vertical, in body axes.
            up = rotation_matrix(x[6:10])[2]
            upright, lying = float(up[2]), float(np.hypot(up[0], up[1]))
            axis = np.array([-up[1], up[0], 0.0]) / lying if lying > 1e-6 else np.eye(3)[0]
            rates = LEVEL_GAIN * np.arctan2(lying, upright) * axis
        _, ratio, _, _, push = self.observer.estimate
        thrust = (model.GRAVITY - push) / (ratio * float(self.named.thrust_gain[0]))
        # Upside down no thrust carries.
        thrust = thrust / max(0.5, upright) if upright > 0 else 0.0
        u = np.concatenate(([thrust], rates))
        return np.minimum(np.maximum(u, self._low), self._high)

    def _within_reach(self, samples: Samples, x: np.ndarray) -> Samples:
        """Move a path that is too far away nearer, as a whole: its shape and its pace stay.

        What lies beyond the horizon makes no good plan: the solver would be told to cover any
        distance in a second. Height apart, so that it is kept on the way to a goal far ahead.
        """
        away = samples.position[0] - x[:3]
        reach, ahead = self.limits.reach, math.hypot(away[0], away[1])
        if ahead <= reach and abs(away[2]) <= reach:
            return samples
        away[:2] *= 1 - reach / max(ahead, reach)
        away[2] *= 1 - reach / max(abs(away[2]), reach)
        return samples._replace(position=samples.position - away)

    def _observe(self, x: np.ndarray, t: float) -> None:
        if self._last is None or self._command is None:
            return
        before, then = self._last
        period = t - then
        if 0 < period <= LONGEST_GAP * self.time_step * (1 + 1e-6):
            self.observer.advance(before, self._command, x, period)

    def _start(self, samples: Samples, initial: np.ndarray) -> None:
        """Begin at the reference itself, its quaternions on the side of the vehicle's."""
        _, ratio, *force = self.observer.estimate
        gain = float(self.named.thrust_gain[0]) * ratio
        believed = Drag(gain, self.named.drag, np.array(force))
        states, inputs = flat_states(samples, believed)
        states[:, 6:10] *= np.where(states[:, 6:10] @ initial[6:10] < 0, -1.0, 1.0)[:, None]
        full = np.column_stack((states[:, :10], inputs[:, :1], states[:, 10:]))
        full[0] = initial
        self._solver.set_iterate(full, np.clip(inputs[:-1], self._low, self._high))

    def _failure(
        self, status: SolveStatus, initial: np.ndarray, started: float, iterations: int = 0
    ) -> TrackingSolution:
        self._solver.reset()
        self._warm = False
        total = time.perf_counter() - started
        flat, p = np.full(self._solver.parts[-1].stop, np.nan), self._solver.parameters.copy()
        states, inputs, costates, multipliers = self._solver.split(flat)
        u, estimate = np.full(model.NU, np.nan), self.observer.estimate.copy()
        return TrackingSolution(
            status, u, states, inputs, costates, multipliers, flat, initial,
            p, estimate, iterations, 0.0, total,
        )  # fmt: skip
