"""Weights on trial: they fly while somebody keeps asking for it, and then go by themselves.

A learner that is killed, hangs or loses the network cannot take back the weights it was trying. So
it never gives them for good: along with the weights it sets ``policy.lease`` to a number of
seconds, and renews that while the trial goes on. When the seconds have passed without a word, the
controller sets its parameters back to the last weights that were set to stay, with
``policy.lease`` 0. It needs to know nothing about learners for that, and ``ros2 param get`` always
tells which weights fly, and whether they stay.

Whoever lent weights renews, changes and keeps them in the same way: by a request that names all of
them (``policy.*``, or ``tracking.*`` of the tracking MPC) along with ``policy.lease``, 0 to keep
them. Nothing else about them is taken during a
trial. So a lease that somebody sets alone neither makes weights stay that nobody has judged yet nor
keeps them flying when the learner is gone, and a single weight set by hand is not lost unnoticed
with the trial.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from hmpc_ros.configuration.signature import LEARNED

LEASE = 'policy.lease'
CHECK_PERIOD = 0.1  # s


class TrialLease:
    """Lets weights on trial go when their lease has run out.

    Args:
        node: the controller; of its parameters those of `LEARNED` are what is leased.
        clock: a monotonic clock [s]; the lease is wall-clock time, whatever /clock does.
    """

    def __init__(self, node: Node, clock: Callable[[], float] = time.monotonic) -> None:
        self._node = node
        self._clock = clock
        self._names = LEARNED[node.get_parameter('policy.kind').value]
        self._keep()
        node.add_on_set_parameters_callback(self._on_set)
        node.add_post_set_parameters_callback(self._after_set)
        node.create_timer(CHECK_PERIOD, self.check, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def remaining(self) -> float:
        """How long the present weights may still fly [s]; inf when they stay."""
        return self._ends - self._clock()

    def _keep(self) -> None:
        """Take the present weights to be the ones that stay."""
        self._kept = self._node.get_parameters(self._names)
        self._ends = math.inf

    def check(self) -> None:
        """Go back to the weights that stay when the lease of the present ones has run out."""
        if self.remaining > 0:
            return
        staying = [*self._kept, RosParameter(LEASE, value=0.0)]
        result = self._node.set_parameters_atomically(staying)
        if result.successful:
            self._node.get_logger().warning(
                'the lease of the weights on trial ran out: flying the last kept weights again'
            )
        else:  # they flew before; something else about the parameters must have changed
            self._ends = self._clock() + 1.0
            self._node.get_logger().error(f'cannot go back to the kept weights: {result.reason}')

    def _on_set(self, parameters: Sequence[RosParameter]) -> SetParametersResult:
        given = {parameter.name: parameter.value for parameter in parameters}
        reason = ''
        if given.keys().isdisjoint((LEASE, *self._names)) or given.keys() >= {LEASE, *self._names}:
            pass
        elif self._ends < math.inf:  # also when the time is over, until `check` has seen it
            reason = (
                f'the present weights are on trial for another {max(self.remaining, 0.0):.1f} s: '
                f'stop the learner, or set all of {", ".join(self._names)} and {LEASE} in one '
                'request (0: they stay)'
            )
        elif given.get(LEASE, 0.0) > 0 and given.keys().isdisjoint(self._names):
            reason = f'{LEASE} lends the weights that are set in the same request, and none is'
        return SetParametersResult(successful=not reason, reason=reason)

    def _after_set(self, parameters: Sequence[RosParameter]) -> None:
        names = {parameter.name for parameter in parameters}
        if names.isdisjoint((*self._names, LEASE)):
            return
        seconds = self._node.get_parameter(LEASE).value
        if seconds > 0:
            self._ends = self._clock() + seconds
        else:
            self._keep()
