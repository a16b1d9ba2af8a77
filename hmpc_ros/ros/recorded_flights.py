"""Flights of vehicles under thrust and rates, out of what was recorded of their topics."""

from pathlib import Path

import numpy as np
from nav_msgs.msg import Odometry
from std_msgs.msg import Header

from hmpc_ros.configuration.signature import is_unasked
from hmpc_ros.plant.grey_box_fit import SHORTEST, Recording
from hmpc_ros.plant.rigid_body import NU, NX, interpolated
from hmpc_ros.ros.command_interface import RATES
from hmpc_ros.ros.conversions import nanoseconds
from hmpc_ros.ros.web_replay import messages

_TOPICS = {'odom': (Odometry,), RATES.topic: (RATES.message,), 'flight_start': (Header,)}
# Periods without odometry after which a flight has ended.
_GAP = 5


def flights_in(path: Path, namespace: str = '') -> list[Recording]:
    """Return the flights in an MCAP file: from the first command on, with even times.

    A flight ends where another starts, and where odometry has a gap. What is shorter than 2 s is
    left out.

    Raises:
        ValueError: the file cannot be read, or holds no flight.
    """
    states: dict[int, np.ndarray] = {}
    commands: dict[int, np.ndarray] = {}
    starts: list[int] = []
    for topic, message in messages(path, _TOPICS, namespace):
        header = message if topic == 'flight_start' else message.header
        stamp = nanoseconds(header.stamp)
        try:
            if topic == 'flight_start':
                starts.append(stamp)
            elif topic == 'odom':
                RATES.read_state(message, states.setdefault(stamp, np.full(NX, np.nan)))
            elif not is_unasked(header.frame_id):
                RATES.read_command(message, commands.setdefault(stamp, np.full(NU, np.nan)))
        except ValueError:
            continue
    t, x = _sorted(states)
    asked, u = _sorted(commands)
    found = []
    if len(t) > 1:
        step = float(np.median(np.diff(t)))
        ends = np.flatnonzero(np.diff(t) > _GAP * step) + 1
        ends = np.union1d(ends, np.searchsorted(t, starts))
        for part in np.split(np.arange(len(t)), ends):
            if len(part) < 2:
                continue
            mine = (asked >= t[part[0]]) & (asked <= t[part[-1]])
            flight = _even(t[part], x[part], asked[mine], u[mine], step)
            found += [] if flight is None else [flight]
    if not found:
        raise ValueError(
            f'{path} holds no flight of {SHORTEST:g} s or more with odometry and {RATES.topic}'
        )
    return found


def _sorted(taken: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return stamps (n,) [ns] in order, and what was taken at them; what is not whole is not."""
    whole = sorted(stamp for stamp, values in taken.items() if np.isfinite(values).all())
    return np.array(whole, dtype=np.int64), np.array([taken[stamp] for stamp in whole])


def _even(
    t: np.ndarray, x: np.ndarray, asked: np.ndarray, u: np.ndarray, step: float
) -> Recording | None:
    """Resample a flight at even times, commands held; None where it is too short.

    A command has the stamp of the odometry that it answers.
    """
    if not len(asked):
        return None
    last = min(int(t[-1]), int(asked[-1] + step))
    n = int((last - asked[0]) / step + 1e-6)
    if n * step < 1e9 * SHORTEST - step / 2:
        return None
    times = 1e-9 * step * np.arange(n + 1)
    states = interpolated(times, 1e-9 * (t - asked[0]), x)
    held = np.searchsorted(1e-9 * (asked - asked[0]), times[:-1] + 1e-9 * step / 4, 'right') - 1
    try:
        return Recording(times, states, u[held])
    except ValueError:
        return None
