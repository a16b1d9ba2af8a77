"""An autopilot's time on this computer's clock."""

from __future__ import annotations

import math
from collections import deque

# Offsets of the last so many seconds count [s].
WINDOW = 10.0
JUMP = 1.0  # s; an offset that moves by more is that of another clock


class AutopilotClock:
    """Tells when a stamp of the autopilot was, by this computer's clock.

    Where the autopilot answers a question about its time, the answer with the shortest round trip
    of the last seconds tells the difference of the clocks best: it was given half a round trip
    before it came. Otherwise the message does that was under way for the shortest time: the offset
    is the smallest ``arrival - stamp``, and the shortest way itself stays unknown. A
    stamp that goes back, or an offset that moves by more than a second, begins anew; until then
    what is told never goes back.
    """

    def __init__(self) -> None:
        self._offsets: deque[tuple[float, float]] = deque()  # (arrival, offset), offsets growing
        self._answers: deque[tuple[float, float, float]] = deque()  # (arrival, round trip, offset)
        self._last = self._told = -math.inf

    @property
    def round_trip(self) -> float:
        """Of the answer that is gone by [s]; NaN: by messages alone."""
        return min((trip for _, trip, _ in self._answers), default=math.nan)

    def answered(self, asked: float, stamp: float, arrival: float) -> None:
        """Take in the time ``stamp``, asked for at ``asked``, that came at ``arrival`` [s]."""
        self._answers.append((arrival, arrival - asked, 0.5 * (asked + arrival) - stamp))

    def time(self, stamp: float, arrival: float) -> float:
        """Return the time of a stamp [s] that came at ``arrival`` [s]; never after that."""
        offset = arrival - stamp
        jumped = self._offsets and abs(offset - self._offsets[0][1]) > JUMP
        if stamp < self._last or jumped:
            self._offsets.clear()
            self._answers.clear()
            self._told = -math.inf
        self._last = stamp
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((arrival, offset))
        while self._offsets[0][0] < arrival - WINDOW:
            self._offsets.popleft()
        while self._answers and self._answers[0][0] < arrival - WINDOW:
            self._answers.popleft()
        best = self._offsets[0][1]
        if self._answers:
            best = min(best, min(self._answers, key=lambda answer: answer[1])[2])
        self._told = max(self._told, stamp + best)
        return self._told
