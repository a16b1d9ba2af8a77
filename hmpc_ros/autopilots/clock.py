"""An autopilot's time on this computer's clock."""

from __future__ import annotations

import math
from collections import deque

# Offsets of the last so many seconds count [s].
WINDOW = 10.0
JUMP = 1.0  # s; an offset that moves by more is that of another clock


class AutopilotClock:
    """Tells when a stamp of the autopilot was, by this computer's clock.

    The message that was under way for the shortest time tells the difference of the clocks best:
    the offset is the smallest ``arrival - stamp`` of the last seconds. The shortest way itself
    stays unknown, and is part of the delay that a controller sees. A stamp that goes back, or an
    offset that moves by more than a second, begins anew; until then what is told never goes back.
    """

    def __init__(self) -> None:
        self._offsets: deque[tuple[float, float]] = deque()  # (arrival, offset), offsets growing
        self._last = self._told = -math.inf

    def time(self, stamp: float, arrival: float) -> float:
        """Return the time of a stamp [s] that came at ``arrival`` [s]; never after that."""
        offset = arrival - stamp
        jumped = self._offsets and abs(offset - self._offsets[0][1]) > JUMP
        if stamp < self._last or jumped:
            self._offsets.clear()
            self._told = -math.inf
        self._last = stamp
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((arrival, offset))
        while self._offsets[0][0] < arrival - WINDOW:
            self._offsets.popleft()
        self._told = max(self._told, stamp + self._offsets[0][1])
        return self._told
