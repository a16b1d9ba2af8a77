"""Flights of a vehicle behind an autopilot: controller and adapter run here, the vehicle flies."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.policy.tracking.flying import TrackedFlight
from hmpc_ros.ros.graph import vehicle
from hmpc_ros.studies.flying import nobody, ros_is_missing

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.plant.reference.protocol import Reference
    from hmpc_ros.ros.vehicle_flight import VehicleFlights
    from hmpc_ros.studies.flying import Progress

PATIENCE = 120.0  # s that a pilot has to take off

Say = Callable[[str], None]


def silent(_words: str) -> None:
    """Say nothing."""


@contextlib.contextmanager
def open_vehicle(
    configuration: Configuration,
    adapter: str,
    *,
    reader: Callable[[str, str], None] | None = None,
) -> Iterator[VehicleFlights]:
    """Start controller and adapter, and wait until the autopilot is heard.

    They talk in the ROS domain of the environment, so that ``hmpc autopilot hand-back`` in another
    terminal reaches them.

    Args:
        configuration: of controller and adapter.
        adapter: its node.
        reader: is called with each line of output of a node, and the node's name before it.

    Raises:
        ValueError: ROS 2 is not installed.
        NotEngagedError: the autopilot is not heard.
        NodeDiedError: a node ended, and said why.
    """
    try:
        from hmpc_ros.ros import vehicle_flight
    except ImportError as error:
        raise ros_is_missing(error) from error
    given = configuration.besides_file()
    given['controller']['reference.begin'] = vehicle_flight.WAITING
    nodes = vehicle(adapter, configuration.path, given)
    domain = {'ROS_DOMAIN_ID': os.environ.get('ROS_DOMAIN_ID') or '0'}
    with vehicle_flight.open_vehicle(
        nodes, adapter, reader=reader, environment=domain
    ) as flights:
        flights.wait_for_autopilot()
        yield flights


def fly_vehicle(
    configuration: Configuration,
    adapter: str,
    reference: Reference,
    steps: int,
    progress: Progress = nobody,
    *,
    say: Say = silent,
    patience: float = PATIENCE,
    reader: Callable[[str, str], None] | None = None,
) -> tuple[TrackedFlight, dict[str, Any], float]:
    """Engage, fly the reference once, and hand back.

    Args:
        configuration: of controller and adapter.
        adapter: its node.
        reference: of the configuration.
        steps: control steps.
        progress: is called with what is being done and the step.
        say: is called with what the pilot is waited for.
        patience: time in which the vehicle has to be ready to be engaged [s].
        reader: as for `open_vehicle`.

    Returns:
        The flight, as the autopilot estimates it; what else is told; how long it took [s].

    Raises:
        NotEngagedError: it was not taken over, or lost before the reference began.
        ValueError, NodeDiedError: see `open_vehicle`.
    """
    period = float(configuration['controller']['time_step'])
    progress('looking for the autopilot', 0)
    with open_vehicle(configuration, adapter, reader=reader) as flights:
        progress('waiting until ready', 0)
        flights.wait_until_ready(patience, say)
        progress('engaging', 0)
        flights.engage()
        flights.settle(reference)
        flown = flights.fly(reference, steps, period, progress=progress)
        adapter_told = dict(flights.told)
        flights.hand_back()
        diagnostics = flights.diagnostics()
    times = 1e3 * np.array(flown.latencies)
    median, p99 = np.percentile(times, (50, 99)).tolist() if len(times) else (None, None)
    told: dict[str, Any] = {
        'mode': 'vehicle',
        'adapter': adapter,
        'errors_against': "the autopilot's estimate",
        'latency_ms.median': median,
        'latency_ms.p99': p99,
        'adapter_told': adapter_told,
    }
    values = next((v for name, v in diagnostics.items() if 'controller' in name), {})
    for name, key in (('median', 'solve time median [ms]'), ('p99', 'solve time 99 % [ms]')):
        if key in values:
            told[f'solve_ms.{name}'] = float(values[key])
    return flown.flight, told, steps * period
