"""From values to objects: the tracking MPC, its reference and the vehicle that it flies."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from hmpc_ros.configuration import build
from hmpc_ros.configuration.files import Configuration
from hmpc_ros.configuration.tables import CONTROLLER
from hmpc_ros.configuration.tracking_tables import LIMITS, MODEL
from hmpc_ros.configuration.weights_file import read_weights
from hmpc_ros.plant import presets
from hmpc_ros.plant.presets import Preset
from hmpc_ros.plant.reference.factory import Values as ReferenceValues
from hmpc_ros.plant.reference.factory import make_feasible
from hmpc_ros.plant.reference.feasibility import Envelope, Feasibility
from hmpc_ros.plant.reference.flatness import Drag
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.plant.reference.transfer import Pace
from hmpc_ros.plant.rigid_body import from_euler
from hmpc_ros.plant.simulators.conditions import Conditions
from hmpc_ros.plant.simulators.flight_simulator import FlightSimulator
from hmpc_ros.plant.winds import Wind
from hmpc_ros.policy.tracking.parameters import SPACE, TrackingLimits, TrackingParameters
from hmpc_ros.policy.tracking.policy import TrackingPolicy
from hmpc_ros.policy.tracking.solver import TrackingSolverOptions

Values = Mapping[str, Any]


def _given(kind: type, values: Values, prefix: str = '') -> dict[str, Any]:
    """Return the values of a dataclass's fields; a list is a tuple there."""
    found = build.given(kind, values, prefix)
    return {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}


def assumed(configuration: Configuration) -> Preset:
    """Return the vehicle that the controller assumes.

    Raises:
        ValueError: there is none of its name, or a controller by itself names none.
    """
    name = configuration['controller']['preset'] or configuration['simulator']['preset']
    if not name:
        raise ValueError(
            'preset is empty: name the vehicle that the controller assumes, one of '
            f'{", ".join(presets.names())}'
        )
    return presets.load(name)


def alone(controller: Values) -> Configuration:
    """Return the configuration of a controller that knows of no simulator."""
    return Configuration({'controller': dict(controller), 'simulator': {'preset': ''}})


def simulator(values: Values) -> FlightSimulator:
    """Return the simulated vehicle.

    Raises:
        ValueError: RotorPy is not installed, or values do not go together.
    """
    return FlightSimulator(
        presets.load(values['preset']),
        values['backend'],
        values['time_step'],
        conditions(values),
        values['seed'],
    )


def conditions(values: Values) -> Conditions:
    """Return in what the simulated vehicle differs from what its controller knows."""
    wind = Wind(**_given(Wind, values, 'wind.'))
    return Conditions(**_given(Conditions, values), wind=wind)


def start(configuration: Configuration) -> list[float]:
    """Return ``simulator.initial_state`` at rest where the reference begins."""
    found, _ = reference(configuration)
    begin = found.sample(np.zeros(1))
    return [*begin.position[0].tolist(), *[0.0] * 5, float(begin.yaw[0]), *[0.0] * 3]


def initial_state(simulator: Values) -> np.ndarray:
    """Return the state (13,) at which a vehicle under thrust and rates starts."""
    return from_euler(simulator['initial_state'])


def pace(controller: Values) -> Pace:
    """Return how fast the vehicle is sent to goals and to where references begin."""
    return Pace(*(controller[f'reference.{f.name}'] for f in fields(Pace)))


def started(controller: Values, preset: Preset) -> Values:
    """Return the values as a controller has them once it has read its ``weights_file``.

    Raises:
        ValueError: the file is not to be used with this vehicle.
    """
    path = controller['weights_file']
    if not path:
        return controller
    horizon = TrackingSolverOptions().horizon
    return {**controller, **read_weights(path, preset.name, horizon, 'tracking')}


def parameters(controller: Values, preset: Preset) -> TrackingParameters:
    """Return weights, model and observer gains; the model as the preset has it where not given."""
    given = _given(TrackingParameters, controller, 'tracking.')
    known = {name: getattr(preset.model, name) for name in MODEL}
    return TrackingParameters(**{**given, **{n: given[n] or known[n] for n in MODEL}})


def entries(theta: np.ndarray) -> dict[str, Any]:
    """Return the controller's parameters ``tracking.*`` of a theta, as ROS has them."""
    blocks = {f'tracking.{name}': v.tolist() for name, v in SPACE.unpack(theta).items()}
    return {name: v if CONTROLLER[name].is_list else v[0] for name, v in blocks.items()}


def limits(controller: Values, preset: Preset) -> TrackingLimits:
    """Return what may be commanded; as the preset has it where not given."""
    given = _given(TrackingLimits, controller, 'tracking.limits.')
    own = preset.limits
    known = dict(zip(LIMITS, (own.a_min, own.a_max, own.rates_max), strict=True))
    return TrackingLimits(**{**given, **{n: given[n] or known[n] for n in LIMITS}})


def policy(configuration: Configuration) -> TrackingPolicy:
    """Return the tracking MPC.

    Raises:
        ValueError: some values do not go together.
        AcadosMissingError, CodeGenerationError: see `TrackingSolver`.
    """
    preset = assumed(configuration)
    controller = started(configuration['controller'], preset)
    return TrackingPolicy(
        parameters(controller, preset), limits(controller, preset), controller['time_step']
    )


def reference(configuration: Configuration) -> tuple[Reference, Feasibility]:
    """Return what to track, and what that asks of the vehicle.

    Raises:
        ValueError: values make no reference, or the vehicle cannot fly it.
    """
    controller, preset = configuration['controller'], assumed(configuration)
    model, bounds = parameters(controller, preset), limits(controller, preset)
    return make_feasible(
        controller['reference.kind'],
        _given(ReferenceValues, controller, 'reference.'),
        Drag(float(model.thrust_gain[0]), model.drag),
        Envelope(bounds.thrust_min, bounds.thrust_max, bounds.rates, bounds.speed, bounds.tilt),
    )
