"""Which steps of the controller were good: a fresh state, answered in time by a good solve."""

from __future__ import annotations

import math
from collections import OrderedDict

_KEPT = 200  # states that wait for an answer


class Steps:
    """Matches states that were sent with what the controller says about them, by their stamps.

    Args:
        max_latency: time that an answer may take [s].
        gap: time without a good step after which the count of them begins anew [s].
    """

    def __init__(self, max_latency: float, gap: float) -> None:
        self._max_latency, self._gap = max_latency, gap
        self._sent: OrderedDict[int, float] = OrderedDict()
        self._count = 0
        self._last = -math.inf
        self.late = 0
        self.foreign = 0
        self.latency = math.nan

    def sent(self, stamp: int, time: float) -> None:
        """Remember that a state with a stamp [ns] went out at ``time`` [s]."""
        self._sent[stamp] = time
        if len(self._sent) > _KEPT:
            self._sent.popitem(last=False)

    def answers(self, stamp: int, time: float) -> bool:
        """Say whether a command with that stamp answers one of our states, in time."""
        sent = self._sent.get(stamp)
        if sent is None:
            self.foreign += 1
            return False
        self.latency = time - sent
        if self.latency > self._max_latency:
            self.late += 1
            return False
        return True

    def solved(self, stamp: int, time: float) -> bool:
        """Hear that a good solve answered a stamp [ns]; say whether the step was good."""
        sent = self._sent.get(stamp)
        if sent is None or time - sent > self._max_latency:
            return False
        self._count = self.count(time) + 1
        self._last = time
        return True

    def count(self, time: float) -> int:
        """Return the good steps since the last gap."""
        return self._count if self.age(time) <= self._gap else 0

    def age(self, time: float) -> float:
        """Return the time since the last good step [s]; inf before the first."""
        return time - self._last
