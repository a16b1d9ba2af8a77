"""References from plain values, as configuration and parameters hold them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from hmpc_ros.plant.declared import parameter
from hmpc_ros.plant.reference.curves import Fourier, circle, gerono, lissajous
from hmpc_ros.plant.reference.feasibility import Envelope, Feasibility, feasible
from hmpc_ros.plant.reference.flatness import FlatModel
from hmpc_ros.plant.reference.headings import Fixed, along
from hmpc_ros.plant.reference.hover import Hover
from hmpc_ros.plant.reference.paced import Paced
from hmpc_ros.plant.reference.phase import Phase
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.plant.reference.splines import from_file
from hmpc_ros.plant.reference.transfer import Pace, Transfer
from hmpc_ros.plant.reference.values import finite, place, positive
from hmpc_ros.plant.reference.waypoints import minimum_snap

KINDS = (
    'hover', 'step', 'circle', 'tilted_circle', 'gerono', 'lissajous', 'waypoints', 'file', 'topic',
)  # fmt: skip
YAWS = ('fixed', 'path', 'given')


@dataclass(frozen=True)
class Values:
    """The parameters `reference.*` of a reference; the defaults fly the eight of the measurements.

    Which apply depends on the kind: hover, topic (until a message comes) and step begin at the
    centre; circles and eights use centre, size, rate, duration and ramp; waypoints and steps the
    pace (speed, acceleration, jerk).
    """

    centre: Any = parameter(
        (0.0, 0.0, 1.0), 'where to hover, centre of a curve, beginning of a step', 'm'
    )
    size: Any = parameter(
        (1.5, 0.75), "half of a curve's width and height; a circle's radius is the first",
        'm', any_length=True,
    )  # fmt: skip
    rate: float = parameter(1.6, "rate of a curve's phase", 'rad/s', 1e-3, 1e3)
    duration: float = parameter(12.0, 'time before a curve begins to end', 's', 1e-2, 1e4)
    ramp: float = parameter(3.0, 'time to reach the rate, and to lose it', 's', 1e-2, 1e3)
    tilt: float = parameter(0.5, "tilt of a tilted circle's plane", 'rad')
    goal: Any = parameter((2.0, 0.0, 1.0), 'end of a step', 'm')
    speed: float = parameter(Pace.speed, 'of steps and waypoints, at most', 'm/s', 1e-3, 1e3)
    acceleration: float = parameter(
        Pace.acceleration, 'of steps and waypoints, at most', 'm/s^2', 1e-3, 1e3
    )
    jerk: float = parameter(Pace.jerk, 'of steps and waypoints, at most', 'm/s^3', 1e-3, 1e5)
    waypoints: Any = parameter((), 'x, y, z, x, y, z, ... of the waypoints', 'm', any_length=True)
    file: str = parameter('', 'CSV file: t,x,y,z[,yaw][,vx,vy,vz][,ax,ay,az], SI units')
    yaw: str = parameter(
        'fixed', 'heading: fixed, along the path, or given by the file or the waypoints',
        choices=YAWS,
    )  # fmt: skip
    yaw_angle: float = parameter(0.0, 'the fixed heading', 'rad')
    yaws: Any = parameter((), 'heading at each waypoint', 'rad', any_length=True)
    infeasible: str = parameter(
        'refuse', 'what is done with what the vehicle cannot fly', choices=('refuse', 'slow')
    )


def make(kind: str, values: Mapping[str, Any] | None = None) -> Reference:
    """Return a reference of one of `KINDS`, from what differs from the defaults of `Values`.

    Raises:
        ValueError: an unknown kind or name, or a value that makes no reference; the message names
            the parameter.
    """
    if kind not in KINDS:
        raise ValueError(f'reference.kind must be one of {", ".join(KINDS)}, got {kind!r}')
    known = [field.name for field in fields(Values)]
    for name in values or {}:
        if name not in known:
            raise ValueError(f'there is no parameter reference.{name}; known: {", ".join(known)}')
    have = Values(**(values or {}))
    if have.yaw not in YAWS:
        raise ValueError(f'reference.yaw must be one of {", ".join(YAWS)}, got {have.yaw!r}')
    angle = float(finite('reference.yaw_angle', have.yaw_angle, ()))
    centre = place('reference.centre', have.centre)
    if kind in ('hover', 'topic'):
        return Hover(centre, angle)
    if kind == 'step':
        goal = place('reference.goal', have.goal)
        return Transfer(centre, goal, angle, angle, _pace(have))
    if kind == 'waypoints':
        points = finite('reference.waypoints', have.waypoints, _shape(have.waypoints))
        if points.ndim == 1:
            if len(points) % 3:
                raise ValueError(
                    f'reference.waypoints needs x, y, z of each point, got {len(points)} numbers'
                )
            points = points.reshape(-1, 3)
        return minimum_snap(points, _pace(have), have.yaws, have.yaw, angle)
    ramp = positive('reference.ramp', have.ramp)
    if kind == 'file':
        if not have.file:
            raise ValueError('reference.kind file needs reference.file, the path of a CSV file')
        return from_file(have.file, have.yaw, angle, ramp)
    if have.yaw == 'given':
        raise ValueError(f'reference.yaw given is for waypoints, file and topic, not for {kind}')
    rate = positive('reference.rate', have.rate)
    phase = Phase(rate, positive('reference.duration', have.duration), ramp)
    curve = _curve(kind, centre, have)
    heading = along(curve, phase.end, angle) if have.yaw == 'path' else Fixed(angle)
    return Paced(curve, phase, heading)


def make_feasible(
    kind: str, values: Mapping[str, Any], model: FlatModel, envelope: Envelope
) -> tuple[Reference, Feasibility]:
    """Return a reference that the vehicle can fly, and what it asks of the vehicle in numbers.

    Kind and values are those of `make`; `infeasible` says whether the rest is refused or slowed.

    Raises:
        ValueError: as `make`, or the vehicle cannot fly it.
    """
    infeasible = str(values.get('infeasible', Values.infeasible))
    return feasible(make(kind, values), model, envelope, infeasible)


def _pace(have: Values) -> Pace:
    return Pace(
        positive('reference.speed', have.speed),
        positive('reference.acceleration', have.acceleration),
        positive('reference.jerk', have.jerk),
    )


def _shape(points: Any) -> tuple[int | None, ...]:
    try:
        return (None,) if np.ndim(points) == 1 else (None, 3)
    except ValueError:  # ragged
        return (None, 3)


def _curve(kind: str, centre: np.ndarray, have: Values) -> Fourier:
    size = finite('reference.size', np.atleast_1d(have.size), (None,))
    if len(size) not in (1, 2) or size.min() <= 0:
        raise ValueError(f'reference.size must be one or two lengths above 0, got {have.size}')
    if kind == 'circle':
        return circle(centre, size[0])
    if kind == 'tilted_circle':
        return circle(centre, size[0], float(finite('reference.tilt', have.tilt, ())))
    if kind == 'gerono':
        return gerono(centre, size[0])
    return lissajous(centre, size if len(size) == 2 else size[0] * np.array([1.0, 0.5]))
