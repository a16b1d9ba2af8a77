"""Arming and take-off by an adapter, where that is allowed: step by step, or not at all.

A step is asked for again and again until it is seen to have happened. The sequence gives up when it
does not in time, when the vehicle is disarmed again, and when somebody chooses another mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hmpc_ros.autopilots.takeover import Situation

REPEAT = 1.0  # s between two requests


@dataclass(frozen=True)
class Step:
    """What is asked for, and how it is seen to have happened.

    Attributes:
        words: what is waited for.
        ask: asks for it.
        done: says whether it has happened.
        modes: of the autopilot in which it may be while it is waited for; empty: any.
        timeout: [s].
    """

    words: str
    ask: Callable[[], None]
    done: Callable[[Situation], bool]
    modes: tuple[str, ...] = ()
    timeout: float = 10.0


class TakeOff:
    """Steps that are under way.

    Args:
        steps: in their order.
        situation: in which it begins.

    Attributes:
        words: what it waits for, or how it ended.
        running: whether it is under way.
    """

    def __init__(self, steps: Sequence[Step], situation: Situation) -> None:
        self._steps, self._k = tuple(steps), 0
        self._mode = situation.mode
        self._since, self._asked = situation.time, situation.time - REPEAT
        self._was_armed = False
        self.running = True
        self.words = f'waiting for {self._steps[0].words}'

    def update(self, situation: Situation) -> None:
        """Look at how things stand; ask for what is to come."""
        s = situation
        while self.running and self._steps[self._k].done(s):
            self._k += 1
            self._since, self._asked = s.time, s.time - REPEAT
            if self._k == len(self._steps):
                self._end('in the air')
            else:
                self.words = f'waiting for {self._steps[self._k].words}'
        if not self.running:
            return
        step = self._steps[self._k]
        if self._was_armed and not s.armed:
            self._end('given up: the vehicle was disarmed')
        elif step.modes and s.mode not in (self._mode, *step.modes):
            self._end(f'given up: somebody chose {s.mode}')
        elif not s.connected or s.failsafe:
            self._end('given up: the autopilot is silent, or tells a failsafe')
        elif s.time - self._since > step.timeout:
            self._end(f'given up: no {step.words} within {step.timeout:g} s')
        elif s.time - self._asked >= REPEAT:
            self._asked = s.time
            step.ask()
        self._was_armed = self._was_armed or s.armed

    def _end(self, words: str) -> None:
        self.running, self.words = False, words
