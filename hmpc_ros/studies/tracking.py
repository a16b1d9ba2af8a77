"""One flight of the tracking MPC over ROS 2, with the real nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.policy.tracking import flying
from hmpc_ros.policy.tracking.observer import N_ESTIMATE
from hmpc_ros.ros.graph import simulation
from hmpc_ros.studies.flying import controller_counts, nobody, ros_is_missing

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.plant.reference.protocol import Reference
    from hmpc_ros.studies.flying import Progress

# Stamp of a flight's first state [s]: the stamps of a vehicle that waits do not get there.
BEGIN = 1000.0
_DISTURBED = ('_noise_std', 'measurement_delay')  # of the simulator: what sensors do wrong


def fly_over_ros(
    configuration: Configuration,
    reference: Reference,
    steps: int,
    progress: Progress = nobody,
    *,
    rviz: bool = False,
    reader: Callable[[str, str], None] | None = None,
) -> tuple[flying.TrackedFlight, dict[str, Any], float]:
    """Fly with node processes.

    Args:
        configuration: what flies.
        reference: of the configuration.
        steps: control steps.
        progress: is called with what is being done and the step.
        rviz: whether to start RViz with it.
        reader: is called with each line of output of a node, and the node's name before it.

    Returns:
        The flight, what only nodes can tell, and how long it took [s].

    Raises:
        ValueError: ROS 2 is not installed.
        NodeDiedError, DiscoveryError, IncompleteFlightError: see `local_flight.fly`.
    """
    try:
        from hmpc_ros.ros import local_flight
        from hmpc_ros.ros.command_interface import RATES
        from hmpc_ros.ros.stamped import Stamped
    except ImportError as error:
        raise ros_is_missing(error) from error

    simulator = configuration['simulator']
    paced = float(simulator['real_time_factor'])
    period = float(simulator['time_step'])
    values = configuration.besides_file()
    values['simulator'].update(start_paused=True, episode_steps=steps, next_start=BEGIN)
    values['controller']['reference.begin'] = BEGIN
    if not paced:
        # Whoever waits for an answer is not late: no fallback may be taken for one by its stamp.
        values['controller']['state_timeout'] = 600.0
    nodes = simulation(configuration.path, values, rviz=rviz)
    # What sensors tell of an undisturbed vehicle is the truth.
    off = [np.any(value) for name, value in simulator.items() if name.endswith(_DISTURBED)]
    heard = Stamped(truth=any(off))
    local = local_flight.fly(
        nodes, steps, period, interface=RATES, listen=heard.listen, hold_missing=paced > 0,
        reader=reader, progress=progress,
    )  # fmt: skip
    record = local.record
    stamps = [record.start + k * round(1e9 * period) for k in range(steps + 1)]
    estimates = heard.estimates(stamps[:-1], N_ESTIMATE)
    solved = np.isfinite(estimates).all(axis=1)
    others = tuple(np.flatnonzero(~solved).tolist())
    counts = controller_counts(local.diagnostics, lockstep=not paced)
    flight = flying.TrackedFlight(
        period, heard.truth(stamps, record.states), record.states, record.inputs,
        reference.sample(period * np.arange(steps + 1)), estimates, (),
        others, others, np.full(steps, np.nan), steps,
    )  # fmt: skip
    return flight, _told(local.diagnostics, record, counts), local.wall_time


def _told(
    diagnostics: Mapping[str, Mapping[str, str]], record: Any, counts: Mapping[str, int]
) -> dict[str, Any]:
    """Return the numbers of `hmpc fly --json` that nodes tell and a flight does not."""
    times = 1e3 * record.answer_times[np.isfinite(record.answer_times)]
    median, p99 = np.percentile(times, (50, 99)).tolist() if len(times) else (None, None)
    values = next((v for name, v in diagnostics.items() if 'controller' in name), {})
    notes = []
    if record.held:
        notes.append(f'{len(record.held)} commands did not arrive in time and were held')
    if record.repeated_states:
        notes.append(f'{record.repeated_states} states were sent again')
    told: dict[str, Any] = {
        'latency_ms.median': median,
        'latency_ms.p99': p99,
        'missed_deadlines': int(values.get('missed deadlines', 0)),
        'held_commands': len(record.held),
        'notes': notes,
        **counts,
    }
    for name, key in (('median', 'solve time median [ms]'), ('p99', 'solve time 99 % [ms]')):
        if key in values:
            told[f'solve_ms.{name}'] = float(values[key])
    return told
