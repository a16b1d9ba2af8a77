"""Puts the states and commands of one flight in order by their stamps, without rclpy."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# What may arrive before it is known at which stamp the flight starts.
_BACKLOG = 1024
# How many step numbers a message names before it says "and more".
_NAMED = 5


class IncompleteFlightError(RuntimeError):
    """A flight was not recorded whole; the message says what is missing."""


class _Message(NamedTuple):
    is_state: bool
    stamp: int  # [ns]
    values: NDArray[np.float64]
    arrival: float  # [s]
    signature: str = ''


@dataclass(frozen=True, eq=False)
class RecordedFlight:
    """T steps of matched states and commands."""

    start: int  #: stamp of the first state [ns]
    time_step: float  #: [s]
    states: NDArray[np.float64]  #: (T+1, nx)
    inputs: NDArray[np.float64]  #: commands (T, nu); input t answers state t
    #: from the arrival of state t to that of its command at the recorder [s], (T,), NaN where
    #: unknown
    answer_times: NDArray[np.float64]
    held: tuple[int, ...] = ()  #: steps whose command is missing and was taken to be the one before
    repeated_states: int = 0  #: odometry messages that came more than once
    repeated_inputs: int = 0  #: commands that came more than once
    strays: int = 0  #: messages within the flight whose stamp is not on its grid of time steps

    @property
    def times(self) -> NDArray[np.float64]:
        """Time since the start of the flight at each state [s], (T+1,)."""
        return np.arange(len(self.states), dtype=np.float64) * self.time_step


class FlightLog:
    """Collects exactly T steps of one flight: T+1 states and the T commands that answer them.

    Messages may come in any order and more than once. Those from before the flight's first stamp
    and from after its last are ignored. The first stamp may become known only after messages of the
    flight have arrived (the answer to ``~/reset`` travels on its own way), so until `begin` what
    comes is kept.
    """

    def __init__(self, steps: int, time_step: float) -> None:
        """Make room for a flight of ``steps`` steps of ``time_step`` seconds.

        Raises:
            ValueError: there is no step, or the time step is not positive.
        """
        if steps < 1:
            raise ValueError(f'a flight needs at least 1 step, got {steps}')
        if not time_step > 0:
            raise ValueError(f'the time step must be positive, got {time_step} s')
        self.steps = int(steps)
        self.time_step = float(time_step)
        self._step_ns = round(time_step * 1e9)
        self._start: int | None = None
        self._states: dict[int, NDArray[np.float64]] = {}
        self._inputs: dict[int, NDArray[np.float64]] = {}
        self._state_arrival: dict[int, float] = {}
        self._input_arrival: dict[int, float] = {}
        self._backlog: deque[_Message] = deque(maxlen=_BACKLOG)
        self._signatures: set[str] = set()
        self._repeated = [0, 0]
        self._contradictions: list[int] = []
        self._strays: list[int] = []
        self._past_end = False

    def begin(self, start: int) -> None:
        """Say at which stamp [ns] the flight starts."""
        self._start = int(start)
        backlog, self._backlog = self._backlog, deque(maxlen=_BACKLOG)
        for message in backlog:
            self._add(message)

    def add_state(self, stamp: int, state: NDArray[np.float64], arrival: float = np.nan) -> None:
        """Take a state (nx,) stamped ``stamp`` [ns] that arrived at ``arrival`` [s, any clock]."""
        self._add(_Message(True, stamp, state, arrival))

    def add_input(
        self, stamp: int, command: NDArray[np.float64], arrival: float = np.nan, signature: str = ''
    ) -> None:
        """Take a command (nu,) that answers the state stamped ``stamp`` [ns].

        ``signature`` tells what the controller found it with.
        """
        self._add(_Message(False, stamp, command, arrival, signature))

    def _add(self, message: _Message) -> None:
        if self._start is None:
            self._backlog.append(message)
            return
        is_state, stamp, values, arrival, signature = message
        step, rest = divmod(stamp - self._start, self._step_ns)
        if step < 0 or step > self.steps or (step == self.steps and not is_state):
            self._past_end |= is_state and step > self.steps
            return
        if not is_state:
            self._signatures.add(signature)
        if rest:
            self._strays.append(stamp)
            return
        known = self._states if is_state else self._inputs
        if step in known:
            self._repeated[0 if is_state else 1] += 1
            if not np.array_equal(known[step], values, equal_nan=True):
                self._contradictions.append(step)
            return
        known[step] = np.array(values, dtype=float)
        (self._state_arrival if is_state else self._input_arrival)[step] = arrival

    @property
    def steps_recorded(self) -> int:
        """How many steps have both their state and their command."""
        return min(len(self._inputs), len(self._states))

    @property
    def signatures(self) -> frozenset[str]:
        """Those of all commands within the flight: one, when it was flown with one thing."""
        return frozenset(self._signatures)

    @property
    def over(self) -> bool:
        """Whether the flight's last state, or a later one, has arrived, whatever is missing."""
        return self._past_end or self.steps in self._states

    @property
    def complete(self) -> bool:
        """Whether all T+1 states and T commands are there."""
        return len(self._states) == self.steps + 1 and len(self._inputs) == self.steps

    @property
    def hole(self) -> int | None:
        """The first step whose state is missing although there is a later one, if any."""
        known = self._states
        return next((s for s in range(max(known, default=0)) if s not in known), None)

    def beginning(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the flight up to its first hole: t+1 states (t+1, nx) and t commands (t, nu)."""
        t = 0
        while t in self._inputs and t + 1 in self._states:
            t += 1
        states = [self._states[step] for step in range(t + 1) if step in self._states]
        return np.array(states), np.array([self._inputs[step] for step in range(t)])

    def stamps(self, count: int) -> list[int]:
        """Return the stamps [ns] of the first states; the flight has begun."""
        assert self._start is not None
        return [self._start + step * self._step_ns for step in range(count)]

    def problems(self) -> list[str]:
        """Say in sentences what is missing or does not fit, empty when the record is whole."""
        if self._start is None:
            return ['the flight has not started: no first stamp is known']
        found = []
        for what, known, count in (
            ('state', self._states, self.steps + 1),
            ('command', self._inputs, self.steps),
        ):
            missing = [step for step in range(count) if step not in known]
            if missing:
                some = _some(missing)
                found.append(f'{len(missing)} of {count} {what}s are missing: step {some}')
        if self.hole is not None:
            found.append(
                f'the odometry leaps over step {self.hole}: did somebody else reset the simulator, '
                'or was a message lost?'
            )
        if self._strays:
            offsets = [f'{(stamp - self._start) / 1e9:.9f} s' for stamp in self._strays]
            found.append(
                f'{len(offsets)} messages are stamped between two steps of {self.time_step} s, '
                f'after {_some(offsets)}: is time_step the same everywhere?'
            )
        if self._contradictions:
            found.append(
                f'{len(self._contradictions)} messages repeat a stamp with other values, '
                f'step {_some(self._contradictions)}: do two nodes publish on one topic?'
            )
        return found

    def flight(self, *, hold_missing: bool = False) -> RecordedFlight:
        """Return the record.

        Args:
            hold_missing: Take a missing command to be the one before it, as a simulator at the pace
                of the wall clock does; the first command and every state must be there.

        Raises:
            IncompleteFlightError: something is missing or contradictory.
        """
        held = []
        inputs = dict(self._inputs)
        if hold_missing and self.over and 0 in inputs:
            for step in range(1, self.steps):
                if step not in inputs:
                    inputs[step] = inputs[step - 1]
                    held.append(step)
        whole = len(self._states) == self.steps + 1 and len(inputs) == self.steps
        if not whole or self._contradictions or self._start is None:
            raise IncompleteFlightError(
                'the flight was not recorded whole: ' + '; '.join(self.problems())
            )
        nan = float('nan')
        return RecordedFlight(
            start=self._start,
            time_step=self.time_step,
            states=np.stack([self._states[step] for step in range(self.steps + 1)]),
            inputs=np.stack([inputs[step] for step in range(self.steps)]),
            answer_times=np.array(
                [
                    self._input_arrival.get(step, nan) - self._state_arrival.get(step, nan)
                    for step in range(self.steps)
                ]
            ),
            held=tuple(held),
            repeated_states=self._repeated[0],
            repeated_inputs=self._repeated[1],
            strays=len(self._strays),
        )


def _some(entries: list) -> str:
    """Name the first few of many."""
    words = ', '.join(str(entry) for entry in entries[:_NAMED])
    return words if len(entries) <= _NAMED else f'{words} and {len(entries) - _NAMED} more'


_RESET_ANSWER = re.compile(r'starts at (\d+)\.(\d{9})\.?$')


def start_stamp(answer: str) -> int:
    """Return the first stamp [ns] of the flight that an answer of ``~/reset`` announces.

    Raises:
        ValueError: the text does not end with a stamp.
    """
    match = _RESET_ANSWER.search(answer.strip())
    if match is None:
        raise ValueError(f'the answer to reset does not end with a stamp: {answer!r}')
    return int(match[1]) * 1_000_000_000 + int(match[2])
