"""The simulator's service ``~/reset``, which begins a flight, as its callers see it."""

import re

from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from hmpc_ros.ros.flight_log import start_stamp


class ResetRefusedError(RuntimeError):
    """The simulator refused to begin a flight; the message is its reason."""


class ResetClient:
    """Asks a simulator node, by its name, for a new flight."""

    def __init__(self, node: Node, simulator: str = 'simulator') -> None:
        self.client = node.create_client(Trigger, f'{simulator}/reset')
        self.request = Trigger.Request()

    @property
    def ready(self) -> bool:
        """Whether the simulator is there."""
        return bool(self.client.service_is_ready())

    def ask(self) -> Future:
        """Ask for a flight; the answer is for `begun`."""
        return self.client.call_async(self.request)

    @staticmethod
    def begun(answer: Trigger.Response) -> tuple[int, int | None]:
        """Return the first stamp [ns] of the flight that began, and its number where it is told.

        Raises:
            ResetRefusedError: there is no flight.
            ValueError: the answer does not tell when it began.
        """
        if not answer.success:
            raise ResetRefusedError(f'the simulator refused to reset: {answer.message}')
        number = re.match(r'flight (\d+) starts', answer.message)
        return start_stamp(answer.message), int(number[1]) if number else None
