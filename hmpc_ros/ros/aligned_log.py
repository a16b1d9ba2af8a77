"""Collects a flight whose states come when they come, without rclpy.

An autopilot's states keep no grid: they are stamped by its clock, now 9, now 12 ms apart. What is
learned from are steps of one control period each, so a flight is what was told at the periods in
between: states are interpolated, and a command holds until the next one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hmpc_ros.plant.rigid_body import interpolated
from hmpc_ros.ros.flight_log import IncompleteFlightError, RecordedFlight

_NANOSECONDS = 1_000_000_000
#: Two states that are further apart [s] leave a hole, over which nothing is interpolated.
HOLE = 0.1
_HOLE = round(HOLE * _NANOSECONDS)

_Array = NDArray[np.float64]


class AlignedLog:
    """Implements what a flyer asks of a `hmpc_ros.ros.flight_log.FlightLog`, over any stamps.

    States are rigid bodies (`hmpc_ros.plant.rigid_body`). Messages may come in any order and more
    than once, also before it is known where the flight begins.

    Attributes:
        steps: T.
        time_step: [s].
    """

    def __init__(self, steps: int, time_step: float) -> None:
        self.steps, self.time_step = steps, time_step
        self._step = round(time_step * _NANOSECONDS)
        self._first: int | None = None
        self._states: dict[int, tuple[_Array, float]] = {}
        self._inputs: dict[int, tuple[_Array, float, str]] = {}
        self._newest_state = self._newest_input = -1

    def begin(self, start: int) -> None:
        """Say at which stamp [ns] the flight starts; nothing much older is needed."""
        self._first = start
        for kept in (self._states, self._inputs):
            for stamp in [stamp for stamp in kept if stamp < start - _HOLE]:
                del kept[stamp]

    def add_state(self, stamp: int, state: _Array, arrival: float = np.nan) -> None:
        """Take a state (13,) stamped ``stamp`` [ns] that arrived at ``arrival`` [s, any clock]."""
        if self._first is None or stamp >= self._first - _HOLE:
            self._states[stamp] = (np.array(state), arrival)
            self._newest_state = max(self._newest_state, stamp)

    def add_input(
        self, stamp: int, command: _Array, arrival: float = np.nan, signature: str = ''
    ) -> None:
        """Take a command (nu,) that answers the state stamped ``stamp`` [ns]."""
        if self._first is None or stamp >= self._first - _HOLE:
            self._inputs[stamp] = (np.array(command), arrival, signature)
            self._newest_input = max(self._newest_input, stamp)

    # -- how far it is -------------------------------------------------------------------------

    @property
    def steps_recorded(self) -> int:
        """How many steps the states reach."""
        if self._first is None:
            return 0
        return max(0, min(self.steps, (self._newest_state - self._first) // self._step))

    @property
    def over(self) -> bool:
        """Whether the flight's last state, or a later one, has arrived, whatever is missing."""
        return self._first is not None and self.steps_recorded == self.steps

    @property
    def complete(self) -> bool:
        """Whether the flight is there whole; a command after its last one says so of commands."""
        return self.over and self._newest_input >= self._last_command and not self.problems()

    @property
    def hole(self) -> int | None:
        """The first step whose state is not known although there is a later one, if any."""
        return next(self._holes(), None)

    def _holes(self) -> Iterator[int]:
        if self._first is None or self._newest_state < self._first:
            return
        stamps = sorted(self._states)
        if stamps[0] > self._first:
            yield 0
        for before, after in itertools.pairwise(stamps):
            k = (before - self._first) // self._step + 1
            if after - before > _HOLE and after > self._first and k <= self.steps:
                yield max(0, k)

    @property
    def _last_command(self) -> int:
        assert self._first is not None
        return self._first + (self.steps - 1) * self._step

    def problems(self) -> list[str]:
        """Say in sentences what is missing, empty when the record is whole."""
        if self._first is None:
            return ['the flight has not started: no first stamp is known']
        found = []
        if not self.over:
            found.append(f'states reach to step {self.steps_recorded} of {self.steps}')
        if holes := list(self._holes()):
            found.append(
                f'no state came for more than {HOLE:g} s, {len(holes)} times, first at step '
                f'{holes[0]}: is the link to the autopilot slow, or this machine busy?'
            )
        if min(self._inputs, default=self._first + 1) > self._first:
            found.append('no command was in force as the flight began')
        return found

    # -- what was flown ------------------------------------------------------------------------

    @property
    def signatures(self) -> frozenset[str]:
        """Those of all commands that were in force within the flight."""
        stamps = set(self.stamps(self.steps))
        return frozenset(
            signature for stamp, (_, _, signature) in self._inputs.items() if stamp in stamps
        )

    @property
    def answer_times(self) -> list[float]:
        """From the arrivals of states to those of their commands [s], in the order of stamps."""
        return [
            arrival - self._states[stamp][1]
            for stamp, (_, arrival, _) in sorted(self._inputs.items())
            if stamp in self._states
        ]

    def stamps(self, count: int) -> list[int]:
        """Return the stamps [ns] of the commands in force at the first control periods.

        Where there is none yet it is the flight's first stamp. The flight has begun.
        """
        assert self._first is not None
        known = np.array(sorted(self._inputs), dtype=np.int64)
        times = self._first + self._step * np.arange(count)
        places = np.searchsorted(known, times, side='right') - 1
        return [int(known[k]) if k >= 0 else self._first for k in places.tolist()]

    def beginning(self) -> tuple[_Array, _Array]:
        """Return the flight as far as states reach: t+1 states (t+1, 13), t commands (t, nu).

        Nothing where they do not reach its first stamp. Holes are interpolated as well.
        """
        if self._first is None or self._newest_state < self._first or not self._inputs:
            return np.empty((0, 0)), np.empty((0, 0))
        flown = self.steps_recorded
        stamps = sorted(self._states)
        states = np.array([self._states[stamp][0] for stamp in stamps])
        since = np.array(stamps) - self._first
        found = interpolated(self._step * np.arange(flown + 1), since, states)
        none = np.full(len(next(iter(self._inputs.values()))[0]), np.nan)
        inputs = [self._inputs.get(stamp, (none,))[0] for stamp in self.stamps(flown)]
        return found, np.array(inputs).reshape(flown, -1)

    def flight(self) -> RecordedFlight:
        """Return the record.

        Raises:
            IncompleteFlightError: something is missing.
        """
        if self.problems():
            raise IncompleteFlightError(
                'the flight was not recorded whole: ' + '; '.join(self.problems())
            )
        assert self._first is not None
        states, inputs = self.beginning()
        return RecordedFlight(
            self._first, self.time_step, states, inputs, np.full(self.steps, np.nan)
        )
