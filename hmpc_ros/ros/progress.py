"""What a learner tells about itself: as topics to draw, as a status to read, and back again.

* ``~/progress`` (diagnostic_msgs/DiagnosticArray): everything below, and the state in words; sent
  on every change and once a second, latched. PlotJuggler draws its values, too.
* ``~/progress/C`` and so on (std_msgs/Float64): one number per topic and iteration, which
  PlotJuggler and Foxglove draw without any settings.
* ``~/history`` (std_msgs/Float64MultiArray): the whole curve, iterations x `COLUMNS`; latched.
* ``controller/learner`` (diagnostic_msgs/DiagnosticArray): the same, at a place that is the
  controller's: there learners of one controller hear of each other.
* ``~/policy`` (std_msgs/Float64MultiArray): the accepted weights q, r, p; latched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from std_msgs.msg import Float64MultiArray, MultiArrayDimension

#: Columns of ``~/history``.
COLUMNS = ('k', 'C', 'V', 'J', 'accepted')

#: Numbers of ``Progress`` that have a topic of their own.
DRAWN = (
    'C', 'V', 'J', 'best', 'trust', 'predicted_change', 'measured_change', 'step_size', 'accepted',
    'seconds',
)  # fmt: skip

# What a learner can be doing, and how much a user should care.
WAITING, LEARNING, PAUSED, DONE, STOPPED = 'waiting', 'learning', 'paused', 'done', 'stopped'
_LEVELS = {
    WAITING: DiagnosticStatus.WARN,
    LEARNING: DiagnosticStatus.OK,
    PAUSED: DiagnosticStatus.OK,
    DONE: DiagnosticStatus.OK,
    STOPPED: DiagnosticStatus.ERROR,
}


@dataclass
class Progress:
    """The state of a learner; numbers are NaN where there is none yet.

    Attributes:
        C, V, J: Costs of the last nominal flight.
        predicted_change, measured_change: Of J by the last candidate, as foretold and as flown.
    """

    #: ``waiting`` (for others), ``learning``, ``paused``, ``done`` or ``stopped`` (by an error)
    state: str = WAITING
    message: str = ''  #: a sentence about it
    learner: str = ''  #: tells this process from every other
    iteration: int = 0  #: finished iterations
    iterations: int = 0  #: iterations in total
    flight: str = ''  #: purpose of the flight under way
    C: float = math.nan
    V: float = math.nan
    J: float = math.nan
    best: float = math.nan  #: lowest J of accepted weights
    #: eta_k of the last iteration; of trust_region, the model's share in the estimate by which the
    #: last candidate was judged
    trust: float = math.nan
    predicted_change: float = math.nan
    measured_change: float = math.nan
    step_size: float = math.nan  #: alpha_k of the last iteration
    #: whether the last iteration's weights were kept (1) or rolled back (0)
    accepted: float = math.nan
    rolled_back: int = 0  #: iterations that were rolled back
    unsafe_flights: int = 0  #: flights that were cut short
    repeats: int = 0  #: flights that were flown again because they were not recorded whole
    seconds: float = math.nan  #: duration of the last iteration [s]
    time_left: float = math.nan  #: estimate for the rest of the run [s]
    reason: str = ''  #: why something was rolled back, cut short or repeated last
    results: str = ''  #: the results folder


def status_from_progress(progress: Progress, name: str) -> DiagnosticStatus:
    """Return the progress as a status, for ``~/progress`` and ``/diagnostics``."""
    values = {field.name: getattr(progress, field.name) for field in fields(Progress)}
    return DiagnosticStatus(
        level=_LEVELS[progress.state],
        name=name,
        message=f'{progress.state}: {progress.message}' if progress.message else progress.state,
        hardware_id=progress.learner,
        values=[
            KeyValue(key=key, value=repr(value) if isinstance(value, float) else str(value))
            for key, value in values.items()
        ],
    )


def progress_from_message(message: DiagnosticArray) -> Progress:
    """Return the progress that a message of ``~/progress`` holds.

    Raises:
        ValueError: it holds none.
    """
    if not message.status:
        raise ValueError('the message holds no status')
    given: Mapping[str, str] = {pair.key: pair.value for pair in message.status[0].values}
    types = {name: type(value) for name, value in vars(Progress()).items()}
    return Progress(**{name: types[name](given[name]) for name in types if name in given})


def history_message(rows: Sequence[Sequence[float]]) -> Float64MultiArray:
    """Return the curve, rows of `COLUMNS`, as a message."""
    width = len(COLUMNS)
    message = Float64MultiArray(data=[float(value) for row in rows for value in row])
    message.layout.dim = [
        MultiArrayDimension(label='iteration', size=len(rows), stride=len(rows) * width),
        MultiArrayDimension(label=','.join(COLUMNS), size=width, stride=width),
    ]
    return message


def history_from_message(message: Float64MultiArray) -> NDArray[np.float64]:
    """Return the curve (iterations, columns) that a message of ``~/history`` holds."""
    return np.array(message.data, dtype=float).reshape(-1, len(COLUMNS))


def policy_message(policy: Mapping[str, Sequence[float] | float]) -> Float64MultiArray:
    """Return the weights ``policy.q``, ``r``, ``p`` and the ``model`` that goes with them, if any.

    Of the tracking MPC it is ``tracking.*``. The message's layout tells how many numbers each has.
    """
    parts = [
        (name.partition('.')[2], values if isinstance(values, Sequence) else [values])
        for name, values in policy.items()
        if values != []
    ]
    message = Float64MultiArray(data=[value for _, values in parts for value in values])
    rest = len(message.data)
    for label, values in parts:
        message.layout.dim.append(MultiArrayDimension(label=label, size=len(values), stride=rest))
        rest -= len(values)
    return message
