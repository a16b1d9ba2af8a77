"""The tracking MPC along its reference, as the safety ladder flies it."""

from __future__ import annotations

import math

import numpy as np

from hmpc_ros.plant.kinds import RATES
from hmpc_ros.plant.odometry import euler_from_quaternion
from hmpc_ros.plant.reference.delayed import Delayed
from hmpc_ros.plant.reference.feasibility import Envelope, Feasibility, check, feasible
from hmpc_ros.plant.reference.flatness import Drag
from hmpc_ros.plant.reference.hover import Hover
from hmpc_ros.plant.reference.protocol import Reference, Samples
from hmpc_ros.plant.reference.transfer import Pace, Transfer, started_from
from hmpc_ros.policy.tracking.parameters import TrackingLimits, TrackingParameters
from hmpc_ros.policy.tracking.policy import STAGE_TIME, TrackingPolicy, TrackingSolution, Window

#: A vehicle within this [m] of where its reference begins needs no path to get there.
NEAR = 0.1
# A path to a goal that asks too much is flown at these shares of its pace.
_EASED = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15)


class TrackingPilot:
    """Implements `hmpc_ros.policy.flight_controller.Pilot`: thrust [m/s^2], body rates [rad/s].

    The reference's time 0 is a stamp: the one that is given, or else the first that is flown. Until
    then the vehicle hovers where the reference begins. From wherever it is, it gets there along a
    bounded path.

    At the given stamp policy and observer begin anew, so that a flight does not depend on what was
    before it.

    Args:
        policy: the MPC; the pilot is its only user.
        reference: what to track.
        begin: stamp of its time 0 [ns]; None: the first one.
        pace: of paths to goals and to references' beginnings.
    """

    plan_step = STAGE_TIME
    _restart: int | None = None  # stamp at which a run begins

    def __init__(
        self,
        policy: TrackingPolicy,
        reference: Reference,
        begin: int | None = None,
        pace: Pace = Pace(),  # noqa: B008 - frozen
    ) -> None:
        self._policy = policy
        self._wanted, self._begin, self._pace = reference, begin, pace
        self.time_step = policy.time_step
        self.reset()

    @property
    def reference(self) -> Reference:
        """What is tracked now; its times are those of `time`."""
        return self._reference

    def time(self, stamp: int) -> float:
        """Return the time [s] of a stamp [ns] that the reference and the policy go by."""
        return 0.0 if self._zero is None else (stamp - self._zero) / 1e9

    # -- what may change in flight -------------------------------------------------------------

    def set_parameters(self, parameters: TrackingParameters) -> None:
        """Fly with other weights, model and observer gains from the next state on."""
        self._policy.set_parameters(parameters)

    def set_limits(self, limits: TrackingLimits) -> None:
        """Fly within other limits from now on, fallbacks included."""
        self._policy.set_limits(limits)

    def begin_at(self, begin: int | None) -> None:
        """Begin the reference anew, its time 0 at a stamp [ns]; None: at the next state."""
        self._begin = begin
        self.reset()

    def restart(self, stamp: int) -> None:
        """Begin what is wanted anew at a stamp [ns], with the first state that is not before it."""
        self._restart = stamp

    def go_to(self, goal: np.ndarray, yaw: float) -> Feasibility:
        """Fly to a goal (3,) [m] with a heading [rad] along a bounded path, from the next state on.

        Returns:
            What the path asks of the vehicle.

        Raises:
            ValueError: the goal is not finite or too far, or no path to it can be flown.
        """
        self._wanted, self._begin = Hover(goal, yaw), None
        if self._last is None:
            return check(self._wanted, *self._vehicle())
        now = self._now()
        model, envelope = self._vehicle()
        for ease in _EASED:
            pace = self._eased(ease)
            path = Transfer(now.position[0], goal, now.yaw[0], yaw, pace, now.velocity[0])
            found = check(path, model, envelope)
            if found.ok:
                break
        self._follow(path)
        return found

    def follow(self, reference: Reference, infeasible: str = 'refuse') -> Feasibility:
        """Fly another reference from the next state on, begun along a bounded path.

        Its time 0 is when its beginning is reached; ``infeasible`` is that of `feasible`.

        Returns:
            What it asks of the vehicle.

        Raises:
            ValueError: the vehicle cannot fly it; nothing is changed.
        """
        reference, found = feasible(reference, *self._vehicle(), infeasible)
        self._wanted, self._begin = reference, None
        if self._last is not None:
            now = self._now()
            self._follow(
                started_from(reference, now.position[0], now.yaw[0], now.velocity[0], self._pace)
            )
        return found

    def _vehicle(self) -> tuple[Drag, Envelope]:
        """Return what the vehicle can do, as the policy has it."""
        p, bounds = self._policy.named, self._policy.limits
        return (
            Drag(float(p.thrust_gain[0]), p.drag),
            Envelope(bounds.thrust_min, bounds.thrust_max, bounds.rates, bounds.speed, bounds.tilt),
        )

    def _eased(self, share: float) -> Pace:
        pace = self._pace
        return Pace(pace.speed * math.sqrt(share), pace.acceleration * share, pace.jerk * share)

    def _now(self) -> Samples:
        """Return the reference at the last state."""
        assert self._last is not None
        return self._reference.sample(np.array([self.time(self._last)]))

    def _follow(self, reference: Reference) -> None:
        """Track what begins at the last state."""
        assert self._last is not None
        delay = self.time(self._last)
        self._reference = Delayed(reference, delay) if delay else reference

    # -- Pilot ---------------------------------------------------------------------------------

    def reset(self) -> None:
        """Begin a run: the reference from its beginning."""
        self._policy.reset()
        self._zero = self._begin
        self._restart = None
        self._last: int | None = None  # stamp of the last state
        self._reference = self._wanted

    def solve(self, state: np.ndarray, stamp: int) -> TrackingSolution:
        """Answer a state (13,)."""
        if self._restart is not None and stamp >= self._restart:
            begin, self._restart = self._restart, None
            self.reset()
            self._zero = begin
        begins = self._begin is not None and stamp >= self._begin
        if self._last is None or (begins and self._last < self._begin):  # type: ignore[operator]
            self._join(state, stamp)
        self._last = stamp
        return self._policy.solve(state, Window(self._reference, self.time(stamp)))

    def _join(self, state: np.ndarray, stamp: int) -> None:
        """Begin at a state: where the reference does, or with a path to there."""
        self._policy.reset()
        self._last = stamp
        if self._zero is None:
            self._zero = stamp
        self._reference = self._wanted
        if not np.abs(state[:6]).max() < 1e4:
            return  # no place to begin a path at; the solve will refuse it
        begin = self._wanted.sample(np.zeros(1))
        if np.linalg.norm(state[:3] - begin.position[0]) > NEAR:
            w, x, y, z = state[6:10].tolist()
            yaw = euler_from_quaternion(x, y, z, w)[2]
            waiting = self.time(stamp) < 0.0
            goal = Hover(begin.position[0], float(begin.yaw[0])) if waiting else self._wanted
            self._follow(started_from(goal, state[:3], yaw, state[3:6], self._pace))

    def plan(self, solution: TrackingSolution) -> np.ndarray:
        """Return the commands (N, 4) that a solution plans."""
        return solution.inputs

    def hover(self, state: np.ndarray | None) -> np.ndarray:
        """Return the thrust that carries the vehicle, as estimated, and rates that level it."""
        return self._policy.level(state)

    def inside(self, command: np.ndarray) -> np.ndarray:
        """Return the command inside its limits."""
        limits = self._policy.limits
        return np.minimum(np.maximum(command, limits.input_min), limits.input_max)

    def distrust(self, state: np.ndarray, max_tilt: float) -> str:
        """Say nothing: the model holds at any attitude."""
        return RATES.trusted(state, max_tilt)

    def sent(self, command: np.ndarray | None) -> None:
        """Let the observer know what is flown."""
        self._policy.sent(command)
