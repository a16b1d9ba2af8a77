"""The safety ladder around any MPC: from measured states to commands that may be flown.

Every state gets one `Answer`: a command or none, where the command comes from, and why. Commands
are finite and inside the limits, whatever comes in. What flies is a `Pilot`: an MPC and where it is
to fly, in the terms of this module.

What happens to a state, in this order:

1.  Not finite: dropped. (The caller drops what cannot even be made a state, see `discard`.)
2.  Same stamp as the last accepted state: the answer of that state once more, without a solve, so
    that a state may be sent again until its answer arrives.
3.  Older than ``state_timeout`` by its stamp, where the clocks allow to tell (see below): dropped.
4.  Earlier stamp than the last accepted state, with two exceptions: dropped. One is a stamp that
    had *run ahead*: stamps jumped ahead of the monotonic clock, and this one fits to those before
    the jump. It is answered as if the jump had not been. The other is a *new run*: a stamp that
    went back by more than ``clock_reset_threshold`` (a simulator that starts again at 0), or any
    earlier stamp after no state was accepted for ``state_timeout`` (so that nothing locks the
    controller out for longer than that). A new run forgets plan and ladder.
5.  Tilted beyond ``max_tilt``, where the pilot's model no longer holds: the ladder below. If it is
    the first state of all: no command.
6.  Solved. If the solve fails: the ladder below.

The *ladder*, from the first failure to the next successful solve, in steps of the plan:

*   the inputs of the last plan, shifted to the present, for at most ``max_fallback_steps``;
*   the pilot's hover command for at most ``max_hover_steps``;
*   nothing.

A successful solve ends it at any rung. Steps are counted in time and not in calls, so that states
at twice the plan's rate do not use up the plan twice as fast.

States that stop coming lead down the same ladder: `tick`, called from a timer, answers as soon as
the last accepted state is older than ``state_timeout``.

The *age* of a state is measured by a monotonic clock from its arrival, so a jump of the node's
clock neither causes nor hides a timeout. What age it has when it arrives is told by its stamp, if
stamps and the node's clock are the same clock: if the first state, or the first after none was
accepted for ``state_timeout``, is stamped at most `CLOCKS_APART` before now and no more than a time
step after. Otherwise (a simulated time, a vehicle's own clock) it counts as new when it arrives.
The difference of node's and monotonic clock is taken then, and taken again before a state is called
old, so that neither clock's setting alone makes a state old.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

import numpy as np

from hmpc_ros.plant.declared import parameter
from hmpc_ros.policy.protocol import SolveStatus

_NANOSECONDS = 1_000_000_000

# Stamps up to so long ago [s] are late; those from before that are of another clock.
CLOCKS_APART = 10.0

# Solve times of this many last solves make up the median and the 99 % of the statistics.
SOLVE_TIME_WINDOW = 1000


class Source(Enum):
    """Where a command comes from; the ladder, top to bottom."""

    SOLUTION = 'solution'
    PLAN = 'shifted plan'
    HOVER = 'hover'
    NOTHING = 'no command'


class Reason(Enum):
    """Why an answer is what it is."""

    SOLVED = 'solved'
    REPEATED_STAMP = 'repeated stamp'
    NOT_FINITE = 'state not finite'
    NOT_A_ROTATION = 'orientation no unit quaternion'
    WRONG_FRAME = 'wrong frame'
    STAMP_WENT_BACK = 'stamp went back'
    TOO_OLD = 'too old by its stamp'
    TILT = 'tilt beyond the model'
    SOLVE_FAILED = 'solve failed'
    STATE_TIMEOUT = 'state timeout'


#: Messages with these reasons never become the controller's state.
DROPPED = (
    Reason.NOT_FINITE, Reason.NOT_A_ROTATION, Reason.WRONG_FRAME, Reason.STAMP_WENT_BACK,
    Reason.TOO_OLD,
)  # fmt: skip

#: Reasons to go down the ladder.
FALLBACKS = (Reason.SOLVE_FAILED, Reason.TILT, Reason.STATE_TIMEOUT)


class Solved(Protocol):
    """What the ladder asks of a solution."""

    @property
    def ok(self) -> bool:
        """Whether it may be flown."""

    @property
    def status(self) -> SolveStatus:
        """How the solve ended."""

    @property
    def input(self) -> np.ndarray:
        """The command (4,)."""

    @property
    def iterations(self) -> int:
        """Of the solver."""

    @property
    def total_time(self) -> float:
        """That it took [s]."""


class Pilot(Protocol):
    """An MPC and where it is to fly: one kind of states (nx,), one kind of commands (4,)."""

    @property
    def time_step(self) -> float:
        """Time between two states [s], and what an answer may take."""

    @property
    def plan_step(self) -> float:
        """Time between two commands of a plan [s], and a step of the ladder."""

    def reset(self) -> None:
        """Begin a run: nothing is remembered of the last one."""

    def solve(self, state: np.ndarray, stamp: int, /) -> Solved:
        """Answer a finite state with its stamp [ns]."""

    def plan(self, solution: Any, /) -> np.ndarray:
        """Return the commands (N, 4) that a solution plans, the first one for its own state."""

    def hover(self, state: np.ndarray | None, /) -> np.ndarray:
        """Return the command (4,) that keeps the vehicle in the air; None: its state is unknown."""

    def inside(self, command: np.ndarray) -> np.ndarray:
        """Return the command inside the limits: a solver meets them only to its tolerance."""

    def distrust(self, state: np.ndarray, max_tilt: float, /) -> str:
        """Say why the model does not hold at a state, by ``max_tilt`` [rad]; empty if it does."""

    def sent(self, command: np.ndarray | None) -> None:
        """Hear what was commanded instead of a solution; None: nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What to do about a state, or about the lack of one."""

    #: (4,) in the units of the pilot, finite and inside the limits; None: send nothing
    command: np.ndarray | None
    source: Source  #: where the command comes from
    reason: Reason  #: why
    #: stamp [ns] of the state that is answered. A command from `tick` answers no state, and must
    #: not be taken for the answer to one: its time is the last stamp and the whole steps since then
    time: int
    solution: Any = None  #: what the pilot found, when it was asked and succeeded just now
    detail: str = ''  #: a few words on a failure, for the log


@dataclass(frozen=True)
class Safety:
    """The ladder's settings.

    Raises:
        ValueError: a setting is out of its range.
    """

    state_timeout: float = parameter(
        0.5, 'age of the last odometry (wall clock) beyond which the controller falls back',
        's', 1e-3,
    )  # fmt: skip
    max_fallback_steps: int = parameter(
        5, 'steps the shifted last plan is flown without a solution', low=0
    )
    max_hover_steps: int = parameter(
        20, 'steps the hover command is sent after that, before the controller falls silent', low=0
    )
    max_tilt: float = parameter(
        1.0, 'roll or pitch beyond which the linear model is not trusted with a solution',
        'rad', 0.01, 1.5,
    )  # fmt: skip
    clock_reset_threshold: float = parameter(
        1.0,
        'a stamp that goes back by more than this is a restarted clock, by less an old message',
        's', 0.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Refuse settings with which there is no ladder."""
        if not 0.0 < self.state_timeout < math.inf:
            raise ValueError(f'state_timeout = {self.state_timeout} s must be positive and finite')
        for name in ('max_fallback_steps', 'max_hover_steps', 'clock_reset_threshold'):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f'{name} = {value} must be finite and at least 0')
        if not 0.0 < self.max_tilt < math.pi / 2:
            raise ValueError(
                f'max_tilt = {self.max_tilt} rad must lie between 0 and pi/2, where the Euler '
                'angles of the model end'
            )


@dataclass
class Statistics:
    """Everything the controller counts, since its start."""

    states: int = 0  #: states accepted (neither dropped nor repeated)
    solves: int = 0  #: times the MPC was asked
    failures: int = 0  #: solves that failed
    silences: int = 0  #: times the ladder ended in no command
    timeouts: int = 0  #: times the states stopped coming for longer than ``state_timeout``
    tilts: int = 0  #: states tilted beyond ``max_tilt``
    repeats: int = 0  #: states answered again
    missed_deadlines: int = 0  #: answers that took longer than the pilot's time step
    new_runs: int = 0  #: clock resets, see the rule at the top of this module
    ran_ahead: int = 0  #: stamps that had run ahead, see there
    age_by_stamp: bool = False  #: whether the age of states is told by their stamps too, see there
    #: commands from the shifted plan or the hover command, by reason
    fallbacks: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(FALLBACKS, 0))
    #: messages dropped, by reason
    dropped: dict[Reason, int] = field(default_factory=lambda: dict.fromkeys(DROPPED, 0))
    solve_time_median: float = math.nan  #: of the last solves [s]; NaN before the first
    #: 99 % of the last solves took at most this [s]; NaN before the first
    solve_time_p99: float = math.nan
    state_age: float = math.inf  #: age of the last accepted state [s]; inf before the first


class FlightController:
    """Answers measured states with commands that may be flown; the rules are at the module's top.

    Args:
        pilot: what flies; the controller is the only one that asks it.
        safety: the ladder's settings.
        clock: a monotonic clock [s], for the age of states and the time an answer takes.
        stamp_clock: the clock that states may be stamped by [s]; None: there is none.
    """

    def __init__(
        self,
        pilot: Pilot,
        safety: Safety,
        clock: Callable[[], float] = time.monotonic,
        stamp_clock: Callable[[], float] | None = None,
    ) -> None:
        self._pilot = pilot
        self._safety = safety
        self._clock = clock
        self._stamp_clock = stamp_clock
        self._clock_offset = 0.0  # stamp clock - monotonic clock [s]
        self._statistics = Statistics()
        self._solve_times = np.zeros(SOLVE_TIME_WINDOW)
        self._plan = np.zeros((0, 4))
        self._forget()

    def _forget(self) -> None:
        """Forget the run: what follows needs a valid state first."""
        self._last: Answer | None = None  # answer to the last accepted state
        self._arrival = -math.inf  # when that state arrived, by the monotonic clock [s]
        self._received = -math.inf  # when it was new, by the same clock [s]
        # Stamp [ns] and arrival [s] of the last state before stamps ran ahead of the clock.
        self._before_jump: tuple[int, float] | None = None
        self._timed_out = False
        self._ticked = 0  # time of the last `tick` since the states stopped [ns]
        self._has_plan = False
        self._plan_start = 0  # [ns]
        self._fallback_since: int | None = None  # [ns]
        self._hover_since: int | None = None  # [ns]
        self._silent = False

    @property
    def silent(self) -> bool:
        """Whether the ladder has ended, so that no command is given until a solve succeeds."""
        return self._silent

    def reset(self) -> None:
        """Begin anew: no command before the next valid state. The counters go on."""
        self._forget()
        self._pilot.reset()

    def set_safety(self, safety: Safety) -> None:
        """Use other settings of the ladder from now on."""
        self._safety = safety

    def statistics(self) -> Statistics:
        """Return the counters, solve times and state age of this instant; the caller's to keep."""
        now = replace(
            self._statistics,
            fallbacks=dict(self._statistics.fallbacks),
            dropped=dict(self._statistics.dropped),
        )
        now.state_age = self._clock() - self._received
        times = self._solve_times[: min(now.solves, SOLVE_TIME_WINDOW)]
        if times.size:
            now.solve_time_median, now.solve_time_p99 = np.percentile(times, (50, 99)).tolist()
        return now

    def discard(self, reason: Reason, stamp: int, detail: str = '') -> Answer:
        """Count a message that could not be made a state, e.g. one in the wrong frame."""
        self._statistics.dropped[reason] += 1
        return Answer(None, Source.NOTHING, reason, stamp, detail=detail)

    def respond(self, state: np.ndarray, stamp: int) -> Answer:
        """Answer a measured state (nx,) with its stamp [ns].

        Neither ``state`` is kept nor is the answer's command used again: both are the caller's.
        """
        arrival = self._clock()
        if not np.isfinite(state).all():
            return self.discard(Reason.NOT_FINITE, stamp)

        last = self._last
        if last is not None and stamp == last.time:
            self._statistics.repeats += 1
            # The limits may have changed since.
            command = None if last.command is None else self._pilot.inside(last.command)
            return Answer(command, last.source, Reason.REPEATED_STAMP, stamp)
        stale = arrival - self._received > self._safety.state_timeout
        age = self._age(stamp, arrival, stale)
        if age > self._safety.state_timeout:
            return self.discard(Reason.TOO_OLD, stamp, f'{age:.2f} s; are the clocks synchronised?')
        if last is not None and stamp < last.time:
            back = (last.time - stamp) / _NANOSECONDS
            if self._had_run_ahead(stamp, arrival):
                self._statistics.ran_ahead += 1
                self._before_jump = None
            elif back <= self._safety.clock_reset_threshold and not stale:
                return self.discard(Reason.STAMP_WENT_BACK, stamp, f'by {back:.3f} s')
            else:
                self._statistics.new_runs += 1
                self.reset()
        elif last is not None and self._lead(last.time, self._arrival, stamp, arrival) > 0:
            self._before_jump = last.time, self._arrival

        tilted = self._pilot.distrust(state, self._safety.max_tilt)
        if tilted and self._last is None:
            self._statistics.tilts += 1
            return Answer(None, Source.NOTHING, Reason.TILT, stamp, detail=tilted)

        self._statistics.states += 1
        self._arrival, self._received = arrival, arrival - age
        self._timed_out = False
        if tilted:
            self._statistics.tilts += 1
            answer = self._fall_back(stamp, Reason.TILT, tilted, state)
        else:
            answer = self._solve(state, stamp)
        self._last = answer
        if self._clock() - arrival > self._pilot.time_step:
            self._statistics.missed_deadlines += 1
        return answer

    def _age(self, stamp: int, arrival: float, begins: bool) -> float:
        """Return the age [s] that a state has by its stamp when it arrives; 0 where unknown.

        Args:
            stamp: [ns].
            arrival: by the monotonic clock [s].
            begins: whether it is to be found out anew whether the clocks are the same.
        """
        if self._stamp_clock is None:
            return 0.0
        present = stamp / _NANOSECONDS
        if begins:
            self._clock_offset = self._stamp_clock() - arrival
            age = arrival + self._clock_offset - present
            self._statistics.age_by_stamp = -self._pilot.time_step <= age <= CLOCKS_APART
        if not self._statistics.age_by_stamp:
            return 0.0
        age = arrival + self._clock_offset - present
        if age > self._safety.state_timeout:
            # Unless the node's clock was set back, along with the stamps.
            offset = self._stamp_clock() - arrival
            if arrival + offset - present <= self._safety.state_timeout:
                self._clock_offset = offset
            age = min(age, arrival + offset - present)
        return max(0.0, age)

    def _lead(self, stamp: int, arrival: float, later: int, later_arrival: float) -> float:
        """Return by how much stamps [ns] advance more than arrivals [s], less a time step [s]."""
        advance = (later - stamp) / _NANOSECONDS - (later_arrival - arrival)
        return advance - self._pilot.time_step

    def _had_run_ahead(self, stamp: int, arrival: float) -> bool:
        """Whether a stamp that went back fits to those before the stamps ran ahead."""
        if self._before_jump is None or stamp <= self._before_jump[0]:
            return False
        lead = self._lead(*self._before_jump, stamp, arrival)
        return -2 * self._pilot.time_step <= lead <= 0

    def tick(self) -> Answer | None:
        """Answer the lack of states; call it from a timer, once per time step.

        Returns:
            The next command of the ladder, or none at its end; None while all is well, and before
            the first valid state.
        """
        if self._last is None:
            return None
        age = self._clock() - self._received
        if age <= self._safety.state_timeout:
            return None
        step = self._pilot.time_step
        step_ns = round(step * _NANOSECONDS)
        present = self._last.time + int(age / step + 1e-6) * step_ns
        if self._timed_out:
            # One tick, one step, whatever the jitter of the timer: no rung gets a command too many.
            present = max(present, self._ticked + step_ns)
        else:
            self._timed_out = True
            self._statistics.timeouts += 1
        self._ticked = present
        return self._fall_back(present, Reason.STATE_TIMEOUT, f'last state is {age:.2f} s old')

    def _solve(self, state: np.ndarray, stamp: int) -> Answer:
        statistics = self._statistics
        solution = self._pilot.solve(state, stamp)
        self._solve_times[statistics.solves % SOLVE_TIME_WINDOW] = solution.total_time
        statistics.solves += 1
        # `ok` includes finiteness; here it is checked once more, where it would fly.
        if not solution.ok or not math.isfinite(sum(solution.input.tolist())):
            statistics.failures += 1
            return self._fall_back(
                stamp,
                Reason.SOLVE_FAILED,
                f'{solution.status.name} after {solution.iterations} iterations',
                state,
            )
        plan = self._pilot.plan(solution)
        if self._plan.shape != plan.shape:
            self._plan = np.empty_like(plan)
        self._plan[:] = plan
        self._plan_start = stamp
        self._has_plan = True
        self._fallback_since = self._hover_since = None
        self._silent = False
        command = self._pilot.inside(solution.input)
        return Answer(command, Source.SOLUTION, Reason.SOLVED, stamp, solution)

    def _fall_back(
        self, present: int, reason: Reason, detail: str, state: np.ndarray | None = None
    ) -> Answer:
        """Return the ladder's rung at a time [ns] of the stamps' clock, and tell the pilot."""
        command, source = self._rung(present, state)
        if command is None:
            if not self._silent:
                self._silent = True
                self._statistics.silences += 1
        else:
            self._statistics.fallbacks[reason] += 1
        # What answers no state (`tick`) is not known to be flown: in lockstep it is not.
        if state is not None:
            self._pilot.sent(command)
        return Answer(command, source, reason, present, detail=detail)

    def _rung(self, present: int, state: np.ndarray | None) -> tuple[np.ndarray | None, Source]:
        """Return the command of the rung that is reached, and which it is."""
        safety = self._safety
        if self._fallback_since is None:
            self._fallback_since = present
        plan_step = self._steps(self._plan_start, present)
        if (
            self._hover_since is None
            and self._has_plan
            and self._steps(self._fallback_since, present) < safety.max_fallback_steps
            and plan_step < len(self._plan)
        ):
            return self._pilot.inside(self._plan[plan_step]), Source.PLAN
        if self._hover_since is None:
            self._hover_since = present
        hovered = self._steps(self._hover_since, present)
        if not self._silent and hovered < safety.max_hover_steps:
            # Checked as solutions are: a state may be finite and yet beyond all measure.
            hover = self._pilot.inside(self._pilot.hover(state))
            if math.isfinite(sum(hover.tolist())):
                return hover, Source.HOVER
        return None, Source.NOTHING

    def _steps(self, start: int, present: int) -> int:
        """Return the whole steps of the plan from ``start`` to ``present`` [ns].

        A tenth of a step of jitter is forgiven, so that 99 ms count as the 100 ms they were meant
        to be. A present before the start (the stamps' clock ran slower than ours) is no step.
        """
        step = round(self._pilot.plan_step * _NANOSECONDS)
        return max(0, (present - start + step // 10) // step)
