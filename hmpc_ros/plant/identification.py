"""Least-squares identification of the linear model from flights, with what can be said against it.

Every step of a flight gives one row of

    x_{t+1} = A x_t + B u_t + c + e_t

in deviations from the goal and from hover. The regressors ``(x, u, 1)`` are scaled to unit spread
before anything is judged: a condition number of raw units (metres next to rad/s) says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import INPUT_NAMES, NU, NX, STATE_NAMES

REGRESSORS = (*STATE_NAMES, *INPUT_NAMES)

# A least-squares fit from barely more rows than unknowns reproduces the noise.
ROWS_PER_UNKNOWN = 3
# Beyond this, rounding of float64 data alone decides about some coefficients.
DEGENERATE_CONDITION = 1e9
# Beyond this, a noise of 0.1 % of the signals' spread makes some coefficients useless.
POOR_CONDITION = 1e3


class IdentificationError(ValueError):
    """The data cannot identify a model; the message says what they lack."""


@dataclass(frozen=True, eq=False)
class Identification:
    """An identified model and how well the data support it."""

    model: LinearModel  #: the linear model
    samples: int  #: number of steps it was fitted to
    #: root mean square of the one-step error of each state, (12,), SI units
    residual_rms: NDArray[np.float64]
    residual_max: NDArray[np.float64]  #: largest one-step error of each state, (12,)
    #: share of each state's *change* over a step that the model explains, (12,), at most 1
    explained: NDArray[np.float64]
    standard_error: NDArray[np.float64]  #: of the entries of [A B c], (12, 17), from the residuals
    condition: float  #: condition number of the scaled regressors
    warnings: tuple[str, ...]  #: what makes the model doubtful, as sentences


def identify(
    flights: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    time_step: float,
    hover_input: NDArray[np.float64],
    with_offset: bool = True,
) -> Identification:
    """Fit (A, B, c) to recorded flights.

    Args:
        flights: States (T+1, 12) and inputs (T, 4) of each, in deviations from the goal and hover.
        time_step: [s].
        hover_input: Rotor speeds that the inputs deviate from [rad/s], (4,).
        with_offset: Whether to fit c; otherwise it is zero.

    Raises:
        IdentificationError: When the data are too few, not finite, or do not excite every state and
            input on its own.
    """
    before, inputs, after = _stack(flights)
    rows, unknowns = len(inputs), NX + NU + with_offset
    if rows < ROWS_PER_UNKNOWN * unknowns:
        raise IdentificationError(
            f'too little data: {rows} steps for {unknowns} unknowns per state; at least '
            f'{ROWS_PER_UNKNOWN * unknowns} are needed'
        )
    signals = np.hstack([before, inputs])
    mean = signals.mean(axis=0) if with_offset else np.zeros(NX + NU)
    spread = np.sqrt(np.mean((signals - mean) ** 2, axis=0))
    still = [
        name
        for name, value, size in zip(REGRESSORS, spread, np.abs(signals).max(axis=0), strict=True)
        if value <= 1e-12 * max(1.0, size)
    ]
    if still:
        raise IdentificationError(
            f'degenerate data: {", ".join(still)} never change, so their effect cannot be seen; '
            'excite them, e.g. by different initial states or a test signal on the inputs'
        )
    scaled = (signals - mean) / spread
    _, singular, directions = np.linalg.svd(scaled, full_matrices=False)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 0 else np.inf
    if condition > DEGENERATE_CONDITION:
        raise IdentificationError(
            f'degenerate data: {_blend(directions[-1])} move together in all of them '
            f'(condition number {condition:.1e}), so that their effects cannot be told apart; '
            'inputs that follow the state exactly, as under feedback alone, need a test signal'
        )
    warnings = []
    if condition > POOR_CONDITION:
        warnings.append(
            f'poorly conditioned data (condition number {condition:.1e}): {_blend(directions[-1])} '
            'move almost together, their coefficients are the least certain'
        )

    change = after - before
    coefficients = np.linalg.lstsq(scaled, change - with_offset * change.mean(axis=0), rcond=None)[
        0
    ]
    slopes = (coefficients / spread[:, None]).T
    offset = with_offset * (change.mean(axis=0) - slopes @ mean)
    model = LinearModel(
        np.eye(NX) + slopes[:, :NX], slopes[:, NX:], offset, time_step, np.asarray(hover_input)
    )

    residual = after - model.predict(before, inputs)
    rms = np.sqrt(np.mean(residual**2, axis=0))
    total = np.sqrt(np.mean(change**2, axis=0))
    explained = 1.0 - (rms / np.maximum(total, 1e-300)) ** 2
    unexplained = [name for name, share in zip(STATE_NAMES, explained, strict=True) if share < 0.5]
    if unexplained:
        warnings.append(
            f'the model explains less than half of how {", ".join(unexplained)} change: too much '
            'noise, or a vehicle that is not linear where it was flown'
        )
    unstable = float(np.max(np.abs(np.linalg.eigvals(model.A))))
    if unstable > 1.05:
        warnings.append(
            f'the identified model is unstable by itself (spectral radius {unstable:.3f}), which a '
            'hovering quadcopter is not: the data are too noisy, or flown too far from hover'
        )
    return Identification(
        model=model,
        samples=rows,
        residual_rms=rms,
        residual_max=np.abs(residual).max(axis=0),
        explained=explained,
        standard_error=_standard_error(scaled, mean, spread, residual, with_offset),
        condition=condition,
        warnings=tuple(warnings),
    )


def _stack(
    flights: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    if not flights:
        raise IdentificationError('no flights to identify from')
    for number, (states, inputs) in enumerate(flights):
        steps = len(inputs)
        if np.shape(states) != (steps + 1, NX) or np.shape(inputs) != (steps, NU):
            raise IdentificationError(
                f'flight {number} has states {np.shape(states)} and inputs {np.shape(inputs)}; '
                f'(T+1, {NX}) and (T, {NU}) are needed'
            )
        if not (np.all(np.isfinite(states)) and np.all(np.isfinite(inputs))):
            raise IdentificationError(f'flight {number} has values that are not finite')
    before = np.concatenate([np.asarray(states)[:-1] for states, _ in flights])
    after = np.concatenate([np.asarray(states)[1:] for states, _ in flights])
    return before, np.concatenate([np.asarray(inputs) for _, inputs in flights]), after


def _blend(direction: NDArray[np.float64]) -> str:
    """Name the signals that make up a direction of the scaled regressors, the strongest first."""
    share = np.abs(direction)
    order = [int(i) for i in np.argsort(-share) if share[i] > 0.2 * share.max()]
    return ', '.join(REGRESSORS[i] for i in order[:6])


def _standard_error(
    scaled: NDArray[np.float64],
    mean: NDArray[np.float64],
    spread: NDArray[np.float64],
    residual: NDArray[np.float64],
    with_offset: bool,
) -> NDArray[np.float64]:
    """Propagate the residuals to the coefficients: sigma^2 (Z' Z)^-1, each state on its own."""
    rows, unknowns = len(scaled), scaled.shape[1] + with_offset
    covariance = np.linalg.inv(scaled.T @ scaled)
    sigma = np.sqrt(np.sum(residual**2, axis=0) / max(1, rows - unknowns))
    slopes = np.sqrt(np.diag(covariance)) / spread
    shift = mean / spread
    offset = np.sqrt(1.0 / rows + shift @ covariance @ shift) if with_offset else 0.0
    return np.outer(sigma, np.append(slopes, offset))
