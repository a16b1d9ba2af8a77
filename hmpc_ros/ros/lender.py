"""A controller's weights as a learner sets them: accepted ones stay, those on trial are only lent.

What is lent goes by itself when this process does: see the other side, `hmpc_ros.ros.trial_lease`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from hmpc_ros.ros.parameter_client import ParameterClient
from hmpc_ros.ros.timings import Stopwatch
from hmpc_ros.ros.trial_lease import LEASE

Values = Mapping[str, Any]


class Lender:
    """Gives a controller weights, to keep or on loan.

    Args:
        controller: its parameters.
        lease: how long what is lent flies without a word [s].
        staying: returns the controller's parameters that go with the accepted weights.
        stopwatch: is told how long answers take.
    """

    def __init__(
        self,
        controller: ParameterClient,
        lease: float,
        staying: Callable[[], Values],
        stopwatch: Stopwatch,
    ) -> None:
        self._controller, self._lease = controller, lease
        self._staying, self._stopwatch = staying, stopwatch
        self._accepted: Values = {}
        self._lent: Values = {}
        self._leased_at: float | None = None

    async def accept(self, weights: Values) -> None:
        """Make weights the ones that stay, and that the controller always goes back to.

        Raises:
            NoAnswerError: the controller does not answer; they stay noted as accepted.
            RefusedError: the controller does not take them.
        """
        self._accepted = dict(weights)
        await self.restore()

    async def restore(self) -> None:
        """Give the controller the accepted weights, for good.

        Raises:
            NoAnswerError: the controller does not answer; its lease brings them back.
        """
        self._leased_at = None
        await self._set(self._for_good())

    def restore_at_once(self) -> None:
        """Send the accepted weights without waiting for an answer."""
        self._leased_at = None
        if self._accepted:
            self._controller.send(self._for_good())

    async def lend(self, weights: Values, beside: Values) -> None:
        """Lend weights for a flight, and set what else it needs; raises as `accept` does."""
        self._lent, self._leased_at = dict(weights), time.monotonic()
        await self._set({**weights, **beside, LEASE: self._lease})

    def renew(self) -> None:
        """Renew the lease while weights are on trial; to be called from a timer."""
        now = time.monotonic()
        silence = 0.0 if self._leased_at is None else now - self._leased_at
        if silence > self._lease:
            self._leased_at = None  # it has run out, and weights are not lent anew within a flight
        elif silence > self._lease / 4:
            self._leased_at = now
            self._controller.send({**self._lent, LEASE: self._lease})

    def _for_good(self) -> dict[str, Any]:
        return {**self._accepted, LEASE: 0.0, **self._staying()}

    async def _set(self, values: Values) -> None:
        started = time.monotonic()
        try:
            await self._controller.set(values)
        finally:
            self._stopwatch.parameters += time.monotonic() - started
