"""Reads and changes another node's parameters, without blocking the own one."""

from __future__ import annotations

import array
from collections.abc import Iterable, Mapping
from typing import Any

from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.parameter import parameter_value_to_python
from rclpy.task import Future

from hmpc_ros.configuration.schema import Parameter
from hmpc_ros.ros.parameters import ros_type
from hmpc_ros.ros.procedure import Patience, Signal


class NoAnswerError(RuntimeError):
    """A service is not there, or did not answer in time."""


class RefusedError(RuntimeError):
    """A node refused a change of its parameters; the message is its reason."""


async def call(client: Client, request: Any, patience: Patience, seconds: float) -> Any:
    """Call a service and return its response.

    Raises:
        NoAnswerError: nobody offers it, or no response came within ``seconds``.
    """
    if not client.service_is_ready():
        raise NoAnswerError(f'nobody offers the service {client.srv_name}')
    answered: Signal[Future] = Signal()
    future = client.call_async(request)
    future.add_done_callback(answered.set)
    try:
        return (await patience.wait(answered, seconds, '')).result()
    except TimeoutError as error:
        raise NoAnswerError(
            f'no answer from the service {client.srv_name} within {seconds:g} s'
        ) from error
    finally:
        if not future.done():
            client.remove_pending_request(future)


class ParameterClient:
    """The parameters of another node, as far as a table declares them, answered within ``seconds``.

    Not rclpy's own ``AsyncParameterClient``: that opens six services where two are needed, cannot
    give up a request that nobody answers, and sends an empty list without its type.
    """

    def __init__(
        self,
        node: Node,
        remote: str,
        table: Mapping[str, Parameter],
        patience: Patience,
        seconds: float,
    ) -> None:
        self._table = table
        self._patience = patience
        self._seconds = seconds
        self._getter = node.create_client(GetParameters, f'{remote}/get_parameters')
        self._setter = node.create_client(
            SetParametersAtomically, f'{remote}/set_parameters_atomically'
        )
        self._sent: Future | None = None

    @property
    def ready(self) -> bool:
        """Whether the node is there."""
        return bool(self._getter.service_is_ready() and self._setter.service_is_ready())

    async def get(self, names: Iterable[str]) -> dict[str, Any]:
        """Return values by name.

        Raises:
            NoAnswerError: the node did not answer.
            ValueError: it does not have all of these parameters.
        """
        names = list(names)
        request = GetParameters.Request(names=names)
        response = await call(self._getter, request, self._patience, self._seconds)
        values = [parameter_value_to_python(value) for value in response.values]
        missing = [name for name, value in zip(names, values, strict=False) if value is None]
        if missing or len(values) != len(names):
            raise ValueError(f'{self._getter.srv_name} does not know {", ".join(missing or names)}')
        return {
            name: list(value) if isinstance(value, (array.array, tuple)) else value
            for name, value in zip(names, values, strict=True)
        }

    async def set(self, values: Mapping[str, Any]) -> None:
        """Change several values, all or none.

        Raises:
            NoAnswerError: the node did not answer; whether it has changed them is not known.
            RefusedError: it refused.
        """
        response = await call(self._setter, self._request(values), self._patience, self._seconds)
        if not response.result.successful:
            raise RefusedError(response.result.reason)

    def send(self, values: Mapping[str, Any]) -> None:
        """Ask for a change without waiting for the answer; it is made before any later one."""
        if self._sent is not None and not self._sent.done():
            self._setter.remove_pending_request(self._sent)
        if self._setter.service_is_ready():
            self._sent = self._setter.call_async(self._request(values))

    def _request(self, values: Mapping[str, Any]) -> SetParametersAtomically.Request:
        return SetParametersAtomically.Request(
            parameters=[
                RosParameter(name, ros_type(self._table[name]), value).to_parameter_msg()
                for name, value in values.items()
            ]
        )
