"""The pieces of the study of model mismatch on the tracking MPC: a run, and a level's gradient."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.configuration import tracking_learner, tracking_rules
from hmpc_ros.learning.requests import NOMINAL, PERTURBED, FlightRequest
from hmpc_ros.learning.results import iterations, number, read_records
from hmpc_ros.learning.summary import best_record
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.protocol import MissingDerivativeError
from hmpc_ros.policy.tracking.parameters import SPACE
from hmpc_ros.studies.benchmark import curve
from hmpc_ros.studies.mismatch_pieces import compared
from hmpc_ros.studies.statistics import or_none

if TYPE_CHECKING:
    from hmpc_ros.configuration.files import Configuration

STEP = 1e-3  # of central differences, in logarithms


def learn_tracking(configuration: Configuration, flights: int) -> dict[str, Any]:
    """Let a rule learn along a path for so many flights; see `mismatch_pieces.learn`.

    J is the learner's own cost of a flight [m^2], from what was measured; ``final`` has it and the
    true RMSE [m] of the best flight.
    """
    begun = time.monotonic()
    known = tracking_learner.teacher(configuration)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'run'
        fly = tracking_learner.flyer(configuration, known)
        run = tracking_learner.train(configuration, known, fly, out)
        records = iterations(read_records(out)[1])
    best = best_record([record for record in records if record['flights'] <= flights])
    J = curve(records, lambda record: number(record['J']), flights)
    return {
        'curve': [or_none(value) for value in J],
        'diverged': run.stopped,
        'gradients': [],
        'final': best and {'J': best['J'], 'rmse': best['rmse_m']},
        'seconds': round(time.monotonic() - begun, 2),
    }


def measure_tracking(configuration: Configuration) -> dict[str, Any]:
    """Compare the model's gradient along a path with central differences of flights.

    Both by the logarithms that the rules change, at the start, on the simulated vehicle.
    """
    begun = time.monotonic()
    known = tracking_learner.teacher(configuration)
    fly = tracking_learner.flyer(configuration, known)
    objective = tracking_learner.TrackingObjective(known)
    start = Parameters(SPACE, known.start.theta)
    seen = tracking_rules.logarithms(start)
    at = seen.of(start)
    flight = fly(FlightRequest(start, NOMINAL, with_solutions=True))
    J = objective.cost(flight).J
    numbers: dict[str, Any] = {'J': or_none(J), 'flies': False}
    if math.isfinite(J):
        try:
            model = tracking_rules.TrackingGradient(known, seen)(flight, at)
        except MissingDerivativeError as error:
            numbers['refused'] = str(error)
        else:

            def cost(move: np.ndarray) -> float:
                there = seen.back(at.with_theta(at.theta + move))
                return objective.cost(fly(FlightRequest(there, PERTURBED))).J

            moves = STEP * np.eye(at.theta.size)
            true = np.array([cost(move) - cost(-move) for move in moves]) / (2 * STEP)
            numbers['flies'] = bool(np.isfinite(true).all())
            if numbers['flies']:
                numbers['differences'] = compared(model, true)
    return {**numbers, 'seconds': round(time.monotonic() - begun, 2)}
