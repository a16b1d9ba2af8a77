"""Vehicles by name: what their makers say of them, and what a controller may assume and command.

A preset is a file of ``config/vehicles``. The constants of vehicles that RotorPy or crazyflow knows
are read from there when the preset is loaded, never copied.
"""

import copy
import importlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hmpc_ros import disk, ros_yaml
from hmpc_ros.plant.airframe import Airframe, frame_positions
from hmpc_ros.plant.quadcopter import QuadcopterParameters
from hmpc_ros.plant.rigid_body import GRAVITY
from hmpc_ros.share import config_dir

# Speed [m/s] at which the quadratic drag of the body is taken as linear.
CRUISE_SPEED = 2.0
ROTORPY_MISSING = (
    'RotorPy is not installed, and this vehicle and simulator are its own: run `make setup`, or '
    '`pip install --no-deps rotorpy==3.0.0` in your own environment'
)
CRAZYFLOW_MISSING = (
    'crazyflow is not installed, and this vehicle and simulator are its own: `make test-crazyflow` '
    'installs it in .venv-crazyflow; in your own environment `pip install crazyflow==0.4.0`, and '
    'set SCIPY_ARRAY_API=1'
)
RPM = 60 / (2 * math.pi)  # in a rad/s
_SOURCES = {'rotorpy', 'reference', 'crazyflow'}
_KEYS = {*_SOURCES, 'thrust_share', 'rates_max', 'rate_lags'}


@dataclass(frozen=True)
class CommandLimits:
    """What may be commanded."""

    a_min: float  # m/s^2, thrust over nominal mass
    a_max: float  # m/s^2
    rates_max: tuple[float, float, float]  # rad/s, about x, y, z, either way


@dataclass(frozen=True)
class NominalModel:
    """What a controller assumes of the vehicle under its autopilot (flight.md, section 2)."""

    drag: tuple[float, float, float]  # 1/s, along body x, y, z
    thrust_lag: float  # s
    rate_lags: tuple[float, float, float]  # s, first-order, about x, y, z
    thrust_gain: float = 1.0


@dataclass(frozen=True)
class Preset:
    """A vehicle by name."""

    name: str  #: of the file
    airframe: Airframe  #: what the autopilot knows
    model: NominalModel  #: what a controller assumes
    limits: CommandLimits  #: what may be commanded
    constants: dict[str, Any]  #: the same vehicle in RotorPy's terms (``quad_params``)


def names() -> list[str]:
    """List the presets that exist."""
    return sorted(path.stem for path in (config_dir() / 'vehicles').glob('*.yaml'))


def load(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        ValueError: there is none of this name, its file is wrong, or RotorPy is not installed.
    """
    path = config_dir() / 'vehicles' / f'{name}.yaml'
    if name not in names():
        raise ValueError(f"there is no vehicle '{name}'; vehicles are {', '.join(names())}")
    values = _read(path)
    if 'rotorpy' in values:
        constants = _rotorpy_constants(values['rotorpy'])
    elif 'crazyflow' in values:
        constants = _crazyflow_constants(values['crazyflow'])
    else:
        constants = _reference_constants(**values['reference'])
    airframe = airframe_of(constants)
    rates_max, rate_lags = _three(path, values, 'rates_max'), _three(path, values, 'rate_lags')
    share = float(values['thrust_share'])
    if not 0 < share <= 1:
        raise ValueError(f'{path}: thrust_share = {share} must be above 0 and at most 1')
    limits = CommandLimits(airframe.min_thrust, share * airframe.max_thrust, rates_max)
    model = NominalModel(_drag(constants, airframe), airframe.motor_time_constant, rate_lags)
    return Preset(name, airframe, model, limits, constants)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = ros_yaml.read(disk.read_text(path, ros_yaml.MOST_BYTES))
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} cannot be read as a vehicle: {disk.reason(error)}') from error
    needed = _KEYS - _SOURCES
    if (
        not isinstance(values, dict)
        or not needed <= set(values) <= _KEYS
        or len(_SOURCES & set(values)) != 1
    ):
        raise ValueError(
            f'{path} must give {", ".join(sorted(needed))}, and one of '
            f'{", ".join(sorted(_SOURCES))}'
        )
    return values


def _three(path: Path, values: dict[str, Any], key: str) -> tuple[float, float, float]:
    numbers = np.asarray(values[key], dtype=float)
    if numbers.shape != (3,) or not np.all(np.isfinite(numbers)) or np.any(numbers <= 0):
        raise ValueError(f'{path}: {key} = {values[key]} must be three positive numbers')
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _rotorpy_constants(module: str) -> dict[str, Any]:
    try:
        found = importlib.import_module(f'rotorpy.vehicles.{module}')
    except ImportError as error:
        raise ValueError(f'{ROTORPY_MISSING} ({error})') from error
    return copy.deepcopy(found.quad_params)


def crazyflow() -> Any:
    """Return the package crazyflow.

    Raises:
        ValueError: it is not installed, or SciPy was imported without what it needs.
    """
    try:
        return importlib.import_module('crazyflow')
    except (ImportError, RuntimeError) as error:
        raise ValueError(f'{CRAZYFLOW_MISSING} ({error})') from error


def _crazyflow_constants(drone: str) -> dict[str, Any]:
    """Write a drone of crazyflow in RotorPy's terms: its curves as they are about hover."""
    known = crazyflow().dynamics.load_params('first_principles', drone)
    mass, lever = float(known['mass']), float(known['L'])
    about_x, about_y, about_z = np.array(known['mixing_matrix'])
    _, k1, k2 = np.array(known['rpm2thrust'])
    weight = mass * GRAVITY / 4

    def speed(thrust: float) -> float:  # rpm
        return float((-k1 + math.sqrt(k1**2 + 4 * k2 * thrust)) / (2 * k2))

    rpm = speed(weight)
    _, c1, c2 = np.array(known['rpm2torque'])
    rise, rise2, fall, fall2 = np.array(known['rotor_dyn_coef'])
    lag = 2 / (rise + fall + 2 * rpm * (rise2 + fall2))
    square = (rpm / RPM) ** 2
    all_rotors = 4 * rpm / RPM
    drag = -np.diag(np.array(known['drag_matrix'])) / all_rotors
    inertia = np.array(known['J'])
    return {
        'crazyflow': drone,
        'mass': mass,
        'Ixx': inertia[0, 0], 'Iyy': inertia[1, 1], 'Izz': inertia[2, 2],
        'Ixy': 0.0, 'Ixz': 0.0, 'Iyz': 0.0,
        'num_rotors': 4,
        'rotor_pos': {
            f'r{i + 1}': np.array([-about_y[i], about_x[i], 0.0]) * lever for i in range(4)
        },
        'rotor_directions': about_z,
        'k_eta': weight / square,
        'k_m': (c1 * rpm + c2 * rpm**2) / square,
        'k_d': drag[0],
        'k_z': drag[2],
        'tau_m': lag,
        'rotor_speed_min': speed(float(known['thrust_min'])) / RPM,
        'rotor_speed_max': speed(float(known['thrust_max'])) / RPM,
    }  # fmt: skip


def _reference_constants(
    frame: str, rotor_speed_max: float, motor_time_constant: float
) -> dict[str, Any]:
    """Write the reference vehicle in RotorPy's terms; its drag as rotor drag, exact at hover."""
    p = QuadcopterParameters()
    positions = frame_positions(frame, p.arm_length)
    all_rotors = 4 * p.hover_speed
    return {
        'mass': p.mass,
        'Ixx': p.inertia[0], 'Iyy': p.inertia[1], 'Izz': p.inertia[2],
        'Ixy': 0.0, 'Ixz': 0.0, 'Iyz': 0.0,
        'num_rotors': 4,
        'rotor_pos': {f'r{i + 1}': np.array(at) for i, at in enumerate(positions)},
        'rotor_directions': np.array([-1, 1, -1, 1]),
        'k_eta': p.thrust_coefficient,
        'k_m': p.drag_torque_coefficient,
        'k_d': p.linear_drag[0] / all_rotors,
        'k_z': p.linear_drag[2] / all_rotors,
        'tau_m': motor_time_constant,
        'rotor_speed_min': 0.0,
        'rotor_speed_max': rotor_speed_max,
    }  # fmt: skip


def airframe_of(constants: dict[str, Any]) -> Airframe:
    """Return what an autopilot knows of a vehicle described in RotorPy's terms."""
    return Airframe(
        mass=constants['mass'],
        inertia=(constants['Ixx'], constants['Iyy'], constants['Izz']),
        rotor_positions=tuple(constants['rotor_pos'].values()),
        rotor_directions=tuple(constants['rotor_directions']),
        thrust_coefficient=constants['k_eta'],
        torque_coefficient=constants['k_m'],
        rotor_speed_min=constants['rotor_speed_min'],
        rotor_speed_max=constants['rotor_speed_max'],
        motor_time_constant=constants['tau_m'],
    )


def _drag(constants: dict[str, Any], airframe: Airframe) -> tuple[float, float, float]:
    """Return the linear drag [1/s] of rotors at hover speed and of the body at cruise speed."""
    rotors = 4 * airframe.hover_speed

    def along(axis: str, rotor: str) -> float:
        body = constants.get(f'c_D{axis}', 0.0) * CRUISE_SPEED
        return float((constants.get(rotor, 0.0) * rotors + body) / airframe.mass)

    return along('x', 'k_d'), along('y', 'k_d'), along('z', 'k_z')
