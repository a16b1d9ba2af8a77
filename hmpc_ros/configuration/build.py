"""From values to objects: vehicle, model, limits, weights and the MPC they describe."""

import functools
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from hmpc_ros.configuration.weights_file import read_weights
from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import NX, Quadcopter, QuadcopterParameters
from hmpc_ros.plant.vehicle import Imperfections, Vehicle
from hmpc_ros.policy.flight_controller import Safety
from hmpc_ros.policy.linear.goal import Goal
from hmpc_ros.policy.linear.identification import (
    FlightPlan,
    fly_for_identification,
    identify_from_flights,
    stabilising_gain,
)
from hmpc_ros.policy.linear.limits import Limits
from hmpc_ros.policy.linear.mpc import Mpc
from hmpc_ros.policy.linear.weights import N_TERMINAL, SLACK, Weights, parameters_of
from hmpc_ros.policy.parameters import Parameters

Values = Mapping[str, Any]


def given(kind: Any, values: Values, prefix: str = '') -> dict[str, Any]:
    """Return the values that carry a dataclass's fields' names, by field."""
    names = [field.name for field in fields(kind)]
    return {name: values[prefix + name] for name in names if prefix + name in values}


def dataclass_from(kind: Any, values: Values, prefix: str = '', **others: Any) -> Any:
    """Build a dataclass from the values that carry its fields' names, and from others."""
    return kind(**given(kind, values, prefix), **others)


def vehicle_parameters(values: Values) -> QuadcopterParameters:
    """Return the physical constants ``vehicle.*``.

    Raises:
        ValueError: they are unphysical.
    """
    return dataclass_from(QuadcopterParameters, values, 'vehicle.')


def quadcopter(simulator: Values) -> Quadcopter:
    """Return the dynamics the simulator flies."""
    return _quadcopter(
        vehicle_parameters(simulator),
        simulator['time_step'],
        simulator['integrator'],
        simulator['substeps'],
    )


@functools.lru_cache(maxsize=8)
def _quadcopter(
    parameters: QuadcopterParameters, time_step: float, integrator: str = 'euler', substeps: int = 1
) -> Quadcopter:
    """Build the dynamics once for all who fly or assume the same vehicle; they keep no state."""
    return Quadcopter(parameters, time_step, integrator, substeps)


def vehicle(simulator: Values) -> Vehicle:
    """Return the simulated vehicle with its imperfections, at its initial state."""
    real = Vehicle(
        quadcopter(simulator), dataclass_from(Imperfections, simulator), simulator['seed']
    )
    real.reset(simulator['initial_state'], flight=0)
    return real


def model(controller: Values) -> LinearModel:
    """Return the MPC's prediction model, with the errors ``model.*`` that it is given on purpose.

    Raises:
        ValueError: the file is missing, damaged or of another time step, or the vehicle unphysical.
    """
    source = controller['model.source']
    found = (
        _model_from_file(controller)
        if source == 'file'
        else _identified_model(controller)
        if source == 'identified'
        else _quadcopter(vehicle_parameters(controller), controller['time_step']).linearise()
    )
    scale, error = controller['model.input_scale'], controller['model.error_std']
    if scale != 1.0:
        found = replace(found, B=scale * found.B)
    if error > 0.0:
        rng, eye = np.random.default_rng(controller['model.seed']), np.eye(len(found.A))
        A = eye + (found.A - eye) * (1.0 + error * rng.standard_normal(found.A.shape))
        found = replace(found, A=A, B=found.B * (1.0 + error * rng.standard_normal(found.B.shape)))
    return found


def _model_from_file(controller: Values) -> LinearModel:
    if not controller['model.file']:
        raise ValueError("model.source is 'file', but model.file names none")
    loaded = LinearModel.load(controller['model.file'])
    if abs(loaded.time_step - controller['time_step']) > 1e-12:
        raise ValueError(
            f'{controller["model.file"]} is a model of time step {loaded.time_step} s, '
            f'but time_step is {controller["time_step"]} s'
        )
    return loaded


# Initial states and test signal of a few noisy flights: far enough from hover to rise above the
# noise.
_SHORT_OF_DATA = {'velocity': 1.0, 'attitude': 0.5, 'rates': 0.4, 'excitation': 5.0}


def _identified_model(controller: Values) -> LinearModel:
    """Identify a model from simulated noisy flights of the vehicle that the MPC assumes."""
    about = 'model.identification.'
    return _identify(
        vehicle_parameters(controller),
        controller['time_step'],
        controller[f'{about}noise'],
        FlightPlan(controller[f'{about}flights'], controller[f'{about}steps'], **_SHORT_OF_DATA),
        limits(controller),
        controller['model.seed'],
    )


@functools.lru_cache(maxsize=2)
def _identify(
    parameters: QuadcopterParameters,
    time_step: float,
    noise: float,
    plan: FlightPlan,
    bounds: Limits,
    seed: int,
) -> LinearModel:
    assumed = _quadcopter(parameters, time_step)
    flights = fly_for_identification(
        Vehicle(assumed, Imperfections(measurement_noise_std=(noise,) * NX), seed),
        stabilising_gain(assumed.linearise(), bounds),
        bounds,
        Goal(),
        plan,
        seed,
    )
    return identify_from_flights(flights, time_step).model


def flying_model(controller: Values, known: LinearModel | None = None) -> LinearModel:
    """Return the model that the weights ``policy.*`` fly with: ``policy.model``, or `model`.

    What that returns may be ``known`` already.
    """
    base = model(controller) if known is None else known
    entries = controller['policy.model']
    return base.with_entries(entries) if len(entries) else base


def limits(controller: Values) -> Limits:
    """Return the bounds ``limits.*``."""
    return dataclass_from(Limits, controller, 'limits.')


def goal(controller: Values) -> Goal:
    """Return the goal ``goal.*``."""
    return Goal(controller['goal.position'], controller['goal.yaw'])


def safety(controller: Values) -> Safety:
    """Return the settings of the controller's ladder of fallbacks."""
    return dataclass_from(Safety, controller)


def weights(controller: Values, model: LinearModel) -> Weights:
    """Return the weights ``policy.*``; an empty ``policy.p`` is computed for the model.

    Raises:
        ValueError: the MPC cannot be solved with them, see `Weights.refuse_unsolvable`.
    """
    q, r, p = (controller[f'policy.{name}'] for name in 'qrp')
    slack = np.array(controller['policy.slack'] or SLACK)
    made = Weights(q, r, p if len(p) else np.zeros(N_TERMINAL), slack)
    made.refuse_unsolvable()
    if not len(p):
        made = Weights.for_model(model, q, r, slack)
        made.refuse_unsolvable()
    return made


def parameters(controller: Values, known: LinearModel) -> Parameters:
    """Return all that ``policy.*`` says, of a controller whose `model` is known.

    Raises:
        ValueError: see `weights`.
    """
    flown = flying_model(controller, known)
    return parameters_of(weights(controller, flown), flown)


def started(controller: Values, known: LinearModel | None = None) -> Values:
    """Return the values as a controller has them once it has read its ``weights_file``.

    What `model` returns may be ``known`` already.

    Raises:
        ValueError: the file is not to be used with this model and horizon.
    """
    path = controller['weights_file']
    if not path:
        return controller
    base = model(controller) if known is None else known
    return {**controller, **read_weights(path, base.identity, controller['horizon'])}


def mpc(controller: Values) -> Mpc:
    """Return the MPC of the controller's values, as it starts.

    Raises:
        ValueError: some of them do not go together.
        AcadosMissingError, CodeGenerationError: see `Mpc`.
    """
    base = model(controller)
    controller = started(controller, base)
    flown = parameters(controller, base)
    return Mpc.of(flown, base, limits(controller), controller['horizon'])
