"""Identification of the MPC's linear model by flights of the simulated vehicle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.configuration import build
from hmpc_ros.plant.quadcopter import STATE_NAMES
from hmpc_ros.policy.linear.identification import (
    FlightPlan,
    fly_for_identification,
    identify_from_flights,
    stabilising_gain,
)

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration
    from hmpc_ros.plant.identification import Identification


def identify_by_flying(
    configuration: Configuration, plan: FlightPlan, seed: int, with_offset: bool = True
) -> Identification:
    """Fly the configured vehicle near its goal and fit the model to the flights.

    Raises:
        IdentificationError: the flights do not tell enough.
    """
    simulator, controller = configuration['simulator'], configuration['controller']
    limits = build.limits(controller)
    vehicle = build.vehicle({**simulator, 'seed': seed})
    # The controller that is at hand before anything is identified: LQR for the assumed vehicle.
    assumed = build.model({**controller, 'model.source': 'hover'})
    flights = fly_for_identification(
        vehicle, stabilising_gain(assumed, limits), limits, build.goal(controller), plan, seed
    )
    return identify_from_flights(flights, simulator['time_step'], with_offset)


def statistics(found: Identification) -> dict[str, Any]:
    """Return what there is to say about an identification, for JSON."""
    return {
        'model': found.model.identity,
        'samples': found.samples,
        'condition': found.condition,
        'residual_rms': dict(zip(STATE_NAMES, found.residual_rms.tolist(), strict=True)),
        'residual_max': dict(zip(STATE_NAMES, found.residual_max.tolist(), strict=True)),
        'explained': dict(zip(STATE_NAMES, found.explained.tolist(), strict=True)),
        'spectral_radius': float(np.abs(np.linalg.eigvals(found.model.A)).max()),
        'warnings': list(found.warnings),
    }
