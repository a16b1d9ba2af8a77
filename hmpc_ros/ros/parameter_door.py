"""The parameter services of a node, behind a door of their own: whatever clients send, it flies on.

rclpy serves ``set_parameters`` and its like between the messages of the flight, in the order in
which they come: a request of 5,000 values, or a thousand requests a second, leave no time for a
command, and a request with a type that there is none of ends the process. Here they are instead

*   taken, unpacked and answered in a thread of their own, which hands what concerns the node's
    parameters to the node's executor, one short task at a time. All state of the node is still
    touched by one thread only, and between two tasks the executor does what has come meanwhile;
*   served for at most `SHARE` of the time, one request of each service in turn; others wait, and of
    more than `DEPTH` that wait for one service the middleware drops the oldest;
*   merged: in one request the last value of a name wins, and all values together are prepared once.
    Only when they do not go together as they are, ``set_parameters`` tries each by itself, as ROS
    has it;
*   refused in words where rclpy raises.

What is left: rclpy unpacks a request in one go and lets no other thread work meanwhile, some 0.02
ms of computing time for each value of ``policy.q``, 0.1 s for 5,000 of them.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from rcl_interfaces.msg import ListParametersResult, ParameterValue, SetParametersResult
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile
from rclpy.type_support import check_for_type_support

SHARE = 0.25  # of the time that requests are served, where they keep coming
BURST = 0.05  # s of service that is not made up for by waiting
DEPTH = 100  # requests that wait for one service
MOST_NAMES = 1000  # that one request may ask about: more than any node has
# The executor gets the interpreter from the door's thread within this time [s]; Python's 5 ms are a
# control step of a nimble vehicle.
SWITCH_INTERVAL = 0.0005

Result = TypeVar('Result')


class ParameterDoor:
    """Serves the parameters of a node that was made with ``start_parameter_services=False``.

    Serves from the moment that an executor spins the node, until `close`, which must come before
    the node is destroyed.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._closed = threading.Event()
        self._credit, self._counted = BURST, time.monotonic()
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._services = [
            self._offer(DescribeParameters, 'describe_parameters', self._describe),
            self._offer(GetParameters, 'get_parameters', self._get),
            self._offer(GetParameterTypes, 'get_parameter_types', self._types),
            self._offer(ListParameters, 'list_parameters', self._list),
            self._offer(SetParameters, 'set_parameters', self._set),
            self._offer(SetParametersAtomically, 'set_parameters_atomically', self._set_atomically),
        ]
        self._wake = GuardCondition(None, None, context=node.context)
        self._thread = threading.Thread(target=self._serve, name='parameter door', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no more; returns when the thread has ended."""
        self._closed.set()
        self._wake.trigger()
        self._thread.join()
        for service, _, _ in self._services:
            service.destroy_when_not_in_use()
        self._wake.destroy()

    def _offer(self, kind: Any, name: str, answer: Callable[[Any, Any], None]) -> Any:
        # Not `Node.create_service`, which would give it to the executor of the flight.
        node = self._node
        check_for_type_support(kind)
        with node.handle:
            service = _rclpy.Service(
                node.handle,
                kind,
                f'{node.get_name()}/{name}',
                QoSProfile(depth=DEPTH).get_c_qos_profile(),
            )
        return service, kind, answer

    # -- the thread ----------------------------------------------------------------------------

    def _serve(self) -> None:
        while self._node.executor is None:  # nobody could do a task yet
            if self._closed.wait(0.01):
                return
        waits = _rclpy.WaitSet(0, 1, 0, 0, len(self._services), 0, self._node.context.handle)
        while not self._closed.is_set() and self._node.context.ok():
            with contextlib.ExitStack() as held:
                waits.clear_entities()
                held.enter_context(self._wake.handle)
                waits.add_guard_condition(self._wake.handle)
                for service, _, _ in self._services:
                    held.enter_context(service)
                    waits.add_service(service)
                waits.wait(-1)
                ready = set(waits.get_ready_entities('service'))
                for service, kind, answer in self._services:
                    if service.pointer in ready and not self._closed.is_set():
                        self._serve_one(service, kind, answer)

    def _serve_one(self, service: Any, kind: Any, answer: Callable[[Any, Any], None]) -> None:
        began = time.monotonic()
        try:
            request, header = service.service_take_request(kind.Request)
            if header is not None:
                response = kind.Response()
                answer(request, response)
                service.service_send_response(response, header.request_id)
        except _ClosedError:
            return
        except Exception as error:  # whatever a client sent, the next one is served
            self._node.get_logger().error(
                f'cannot answer a request for {service.name}: {type(error).__name__}: {error}',
                throttle_duration_sec=2.0,
            )
        self._rest(began)

    def _rest(self, began: float) -> None:
        """Give the flight its share of the time."""
        now = time.monotonic()
        earned = SHARE * (began - self._counted)
        self._credit = min(self._credit + earned, BURST) - (now - began)
        self._counted = now
        if self._credit < 0.0:
            self._closed.wait(-self._credit / SHARE)

    def _in_executor(self, work: Callable[[], Result]) -> Result:
        """Have the executor's thread do something with the node, and return what comes of it."""
        done = threading.Event()
        outcome: list[tuple[Any, Exception | None]] = []

        def task() -> None:
            # Nothing may come out of a task: it ends the events executor of Kilted, and the process
            # with it, by a segmentation fault.
            try:
                outcome.append((work(), None))
            except Exception as error:
                outcome.append((None, error))
            done.set()

        executor = self._node.executor
        if executor is None:
            raise _ClosedError
        executor.create_task(task)
        while not done.wait(0.1):
            if self._closed.is_set():
                raise _ClosedError
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    # -- what is asked -------------------------------------------------------------------------

    def _about(self, names: Sequence[str], tell: Callable[[str], Result]) -> list[Result]:
        """Tell something of each parameter; of none when not all of them are there, as ROS does."""

        def work() -> list[Result]:
            node = self._node
            known = len(names) <= MOST_NAMES and all(map(node.has_parameter, names))
            return [tell(name) for name in names] if known else []

        return self._in_executor(work)

    def _describe(
        self, request: DescribeParameters.Request, response: DescribeParameters.Response
    ) -> None:
        response.descriptors = self._about(request.names, self._node.describe_parameter)

    def _get(self, request: GetParameters.Request, response: GetParameters.Response) -> None:
        def value(name: str) -> ParameterValue:
            return self._node.get_parameter_or(name, RosParameter(name)).get_parameter_value()

        response.values = self._about(request.names, value)

    def _types(
        self, request: GetParameterTypes.Request, response: GetParameterTypes.Response
    ) -> None:
        response.types = self._about(request.names, self._node.get_parameter_type)

    def _list(self, request: ListParameters.Request, response: ListParameters.Response) -> None:
        prefixes, depth = list(request.prefixes), request.depth
        if len(prefixes) > MOST_NAMES:
            response.result = ListParametersResult()
            return
        response.result = self._in_executor(lambda: self._node.list_parameters(prefixes, depth))

    # -- what is to be changed -----------------------------------------------------------------

    def _set(self, request: SetParameters.Request, response: SetParameters.Response) -> None:
        results, parameters = self._sorted(request.parameters)
        if parameters:
            together = self._change(list(parameters.values()))
            for name, parameter in parameters.items():
                one_by_one = not together.successful and len(parameters) > 1
                results[name] = self._change([parameter]) if one_by_one else together
        response.results = [results[message.name] for message in request.parameters]

    def _set_atomically(
        self, request: SetParametersAtomically.Request, response: SetParametersAtomically.Response
    ) -> None:
        refused, parameters = self._sorted(request.parameters)
        if refused:
            reasons = [result.reason for result in refused.values()]
            more = f'; and {len(reasons) - 5} more' if len(reasons) > 5 else ''
            response.result = _refusal('; '.join(reasons[:5]) + more)
        else:
            response.result = self._change(list(parameters.values()))

    def _change(self, parameters: list[RosParameter]) -> SetParametersResult:
        return self._in_executor(lambda: self._node.set_parameters_atomically(parameters))

    def _sorted(
        self, messages: Iterable[ParameterMessage]
    ) -> tuple[dict[str, SetParametersResult], dict[str, RosParameter]]:
        """Return by name what is refused at once, and the last value of everything else."""
        refused: dict[str, SetParametersResult] = {}
        parameters: dict[str, RosParameter] = {}
        for name, message in {message.name: message for message in messages}.items():
            if not self._node.has_parameter(name):
                refused[name] = _refusal(f"there is no parameter '{name}'")
                continue
            try:
                parameters[name] = RosParameter.from_parameter_msg(message)
            except (ValueError, TypeError):
                refused[name] = _refusal(
                    f'{name} is of type {message.value.type}, which is no type of a parameter'
                )
        return refused, parameters


class _ClosedError(RuntimeError):
    """The door was closed while somebody waited."""


def _refusal(reason: str) -> SetParametersResult:
    return SetParametersResult(successful=False, reason=reason)
