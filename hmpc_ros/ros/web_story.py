"""What a live page shows, put together from messages: alike from topics and from a recording.

A `Story` takes one message after another by the name of its topic, and keeps what there is to see.
It knows neither how the messages come nor how they are drawn.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry, Path
from numpy.typing import NDArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from hmpc_ros.ros.conversions import nanoseconds
from hmpc_ros.ros.progress import Progress, history_from_message, progress_from_message

Array = NDArray[np.float64]

# Two odometry messages of one flight are nearer than this in time [s] and place [m].
GAP, JUMP = 1.0, 1.0
LEAST = 20  # states of what counts as a flight
MOST_POINTS = 20_000  # of a flight that are kept
MOST_SOLVES = 600  # reports of solve times, one a second

SOLVE_TIMES = ('solve time median [ms]', 'solve time 99 % [ms]')


@dataclass(eq=False)
class Flown:
    """One flight as it was heard.

    Attributes:
        begun: stamp of its first state [s].
        whole: whether its beginning was seen.
        positions: (n, 3) [m], in the world.
        values: (n,) by which the path is coloured: error [m], or speed [m/s] without a reference.
    """

    begun: float
    whole: bool
    positions: deque[tuple[float, float, float]] = field(
        default_factory=lambda: deque(maxlen=MOST_POINTS)
    )
    values: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_POINTS))


@dataclass(frozen=True, eq=False)
class _Reference:
    times: Array  # of the stamps [s]
    positions: Array

    def at(self, time: float) -> tuple[float, float, float] | None:
        if not self.times[0] <= time <= self.times[-1]:
            return None
        x, y, z = (float(np.interp(time, self.times, self.positions[:, k])) for k in range(3))
        return x, y, z


class Story:
    """What was heard until now.

    Attributes:
        pose: position [m] and quaternion (w, x, y, z) of the vehicle, None before the first.
        time: stamp of that pose [s].
        flight: the one under way.
        first: the first whole flight, once another has begun.
        ghost: positions (n, 3) of that first whole flight, once another has begun.
        rmse: of each finished whole flight [m], to the reference.
        plan, reference: positions (n, 3).
        progress: what a learner told last.
        history: (iterations, 5), of a learner.
        trust: (iteration, trust in the model).
        solve_times: (seconds since the first, median, 99 %) [s, ms, ms].
        identified: name: (estimate, standard error).
        takeover: what an adapter told last.
    """


    def __init__(self, learner: str = 'learner', adapter: str = 'mavlink_adapter') -> None:
        self.topics: dict[str, tuple[type, bool, Any]] = {
            'odom': (Odometry, False, self._on_odometry),
            'predicted_path': (Path, False, self._on_plan),
            'reference_path': (Path, True, self._on_reference),
            '/diagnostics': (DiagnosticArray, False, self._on_diagnostics),
            f'{learner}/progress': (DiagnosticArray, True, self._on_progress),
            f'{learner}/history': (Float64MultiArray, True, self._on_history),
            f'{learner}/identified': (JointState, True, self._on_identified),
            f'{adapter}/takeover': (DiagnosticStatus, True, self._on_takeover),
        }
        self.pose: tuple[tuple[float, float, float], tuple[float, float, float, float]] | None
        self.pose = None
        self.time = math.nan
        self.flight: Flown | None = None
        self.ghost: Array = np.empty((0, 3))
        self.rmse: list[float] = []
        self.plan: Array = np.empty((0, 3))
        self.reference: Array = np.empty((0, 3))
        self.progress: Progress | None = None
        self.history: Array = np.empty((0, 5))
        self.trust: list[tuple[float, float]] = []
        self.solve_times: deque[tuple[float, float, float]] = deque(maxlen=MOST_SOLVES)
        self.identified: dict[str, tuple[float, float]] = {}
        self.takeover: DiagnosticStatus | None = None
        self.first: Flown | None = None
        self._timed: _Reference | None = None
        self._first_report: float | None = None

    def take(self, topic: str, message: Any) -> None:
        """Take a message in; one of a topic that is not in `topics` is ignored."""
        if topic in self.topics:
            self.topics[topic][2](message)

    def forget_plan(self) -> None:
        """Show no plan: nobody listens to it any more."""
        if len(self.plan):
            self.plan = np.empty((0, 3))

    @property
    def by_error(self) -> bool:
        """Whether paths are coloured by the distance to a reference, else by speed."""
        return self._timed is not None

    def _on_odometry(self, message: Odometry) -> None:
        p, q = message.pose.pose.position, message.pose.pose.orientation
        position, time = (p.x, p.y, p.z), 1e-9 * nanoseconds(message.header.stamp)
        if not math.isfinite(sum(position)) or time == self.time:
            return  # sent again
        begins = self.pose is None or not (
            0 < time - self.time < GAP and math.dist(position, self.pose[0]) < JUMP
        )
        if begins:
            self._begin(time)
        self.pose, self.time = (position, (q.w, q.x, q.y, q.z)), time
        assert self.flight is not None
        self.flight.positions.append(position)
        self.flight.values.append(self._value(message, position, time))

    def _begin(self, time: float) -> None:
        """Close the flight that was, and begin another."""
        flight = self.flight
        if flight is not None and flight.whole and len(flight.positions) >= LEAST:
            if self.first is None:
                self.first = flight
                self.ghost = np.array(flight.positions)
            errors = np.array(flight.values)
            errors = errors[np.isfinite(errors)]
            if self.by_error and len(errors):
                self.rmse.append(float(np.sqrt(np.mean(errors**2))))
        # What is heard first may have begun before.
        self.flight = Flown(time, whole=flight is not None)

    def _value(
        self, message: Odometry, position: tuple[float, float, float], time: float
    ) -> float:
        if self._timed is None:
            v = message.twist.twist.linear
            return math.hypot(v.x, v.y, v.z)
        # A reference is told once, and flown from again by every flight that begins later.
        flight, shift = self.flight, 0.0
        assert flight is not None
        if flight.whole and flight.begun > self._timed.times[0]:
            shift = self._timed.times[0] - flight.begun
        wanted = self._timed.at(time + shift)
        return math.nan if wanted is None else math.dist(position, wanted)

    def _on_plan(self, message: Path) -> None:
        self.plan = _positions(message)

    def _on_reference(self, message: Path) -> None:
        self.reference = _positions(message)
        times = np.array([1e-9 * nanoseconds(pose.header.stamp) for pose in message.poses])
        if len(times):
            if self._timed is None and self.flight is not None:
                # What was coloured by speed until now has no error.
                values = self.flight.values
                self.flight.values = deque([math.nan] * len(values), maxlen=values.maxlen)
            self._timed = _Reference(times, self.reference)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            if SOLVE_TIMES[0] not in values:
                continue
            now = 1e-9 * nanoseconds(message.header.stamp)
            if self._first_report is None:
                self._first_report = now
            median, p99 = (float(values.get(name, 'nan')) for name in SOLVE_TIMES)
            if math.isfinite(median):
                self.solve_times.append((now - self._first_report, median, p99))

    def _on_progress(self, message: DiagnosticArray) -> None:
        try:
            self.progress = progress_from_message(message)
        except ValueError:
            return  # of another kind
        point = (float(self.progress.iteration), self.progress.trust)
        if math.isfinite(point[1]) and (not self.trust or self.trust[-1][0] != point[0]):
            self.trust.append(point)

    def _on_history(self, message: Float64MultiArray) -> None:
        self.history = history_from_message(message)

    def _on_identified(self, message: JointState) -> None:
        self.identified = {
            name: (value, error)
            for name, value, error in zip(
                message.name, message.position, message.effort, strict=False
            )
        }

    def _on_takeover(self, message: DiagnosticStatus) -> None:
        self.takeover = message


def _positions(message: Path) -> Array:
    points = [(p.pose.position.x, p.pose.position.y, p.pose.position.z) for p in message.poses]
    return np.array(points, dtype=float).reshape(-1, 3)
