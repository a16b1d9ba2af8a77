"""Flights of the linear MPC as files."""

from pathlib import Path

import numpy as np

from hmpc_ros import disk
from hmpc_ros.plant.quadcopter import NU, NX
from hmpc_ros.policy.flight import Flight
from hmpc_ros.policy.linear.goal import Goal

_ARRAYS = {
    'states': (None, NX), 'inputs': (None, NU), 'goal': (4,), 'hover_input': (NU,),
    'failed_steps': (None,), 'planned_steps': (), 'ended': (),
}  # fmt: skip


def save_flight(flight: Flight, path: Path | str) -> None:
    """Write the measurements, without the solver's solutions, to a ``.npz`` file."""
    planned = flight.steps if flight.planned_steps is None else flight.planned_steps
    arrays = {
        'states': flight.states,
        'inputs': flight.inputs,
        'goal': np.array([*flight.goal.position, flight.goal.yaw]),
        'hover_input': flight.hover_input,
        'failed_steps': np.array(flight.failed_steps, dtype=int),
        'planned_steps': np.array(planned),
        'ended': np.array(flight.ended),
    }
    disk.write_arrays(path, arrays)


def load_flight(path: Path | str) -> Flight:
    """Read a flight that `save_flight` wrote.

    Raises:
        ValueError: the file cannot be read or is no flight.
    """
    try:
        data = disk.read_arrays(path, _ARRAYS)
        x, y, z, yaw = (float(value) for value in data['goal'])
        return Flight(
            states=data['states'],
            inputs=data['inputs'],
            goal=Goal((x, y, z), yaw),
            hover_input=data['hover_input'],
            failed_steps=tuple(int(step) for step in data['failed_steps']),
            planned_steps=int(data['planned_steps']),
            ended=str(data['ended']),
        )
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} is not a flight: {disk.reason(error)}') from error
