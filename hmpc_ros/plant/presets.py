"""Vehicles by name: what their makers say of them, and what a controller may assume and command.

A preset is a file of ``config/vehicles``. The constants of vehicles that RotorPy knows are read
from RotorPy when the preset is loaded, never copied.
"""

import copy
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hmpc_ros import disk, ros_yaml
from hmpc_ros.plant.airframe import Airframe, frame_positions
from hmpc_ros.plant.quadcopter import QuadcopterParameters
from hmpc_ros.share import config_dir

# Speed [m/s] at which the quadratic drag of the body is taken as linear.
CRUISE_SPEED = 2.0
ROTORPY_MISSING = (
    'RotorPy is not installed, and this vehicle and simulator are its own: run `make setup`, or '
    '`pip install --no-deps rotorpy==3.0.0` in your own environment'
)
_KEYS = {'rotorpy', 'reference', 'thrust_share', 'rates_max', 'rate_lags'}


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
    """A vehicle by name.

    Attributes:
        name: of the file.
        airframe: what the autopilot knows.
        model: what a controller assumes.
        limits: what may be commanded.
        constants: the same vehicle in RotorPy's terms (``quad_params``).
    """

    name: str
    airframe: Airframe
    model: NominalModel
    limits: CommandLimits
    constants: dict[str, Any]


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
    needed = _KEYS - {'rotorpy', 'reference'}
    if (
        not isinstance(values, dict)
        or not needed <= set(values) <= _KEYS
        or ('rotorpy' in values) == ('reference' in values)
    ):
        raise ValueError(
            f'{path} must give {", ".join(sorted(needed))}, and either rotorpy or reference'
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
