"""Weights, lags and observer gains by rehearsal: Levenberg and Marquardt on logarithms of theta."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hmpc_ros.policy.tracking.parameters import BLOCKS, N_THETA, SPACE
from hmpc_ros.policy.tracking.rehearsal import Rehearsed

#: What is tuned; what has a physical meaning and does not act as a weight is identified instead.
TUNED = (
    'position', 'velocity', 'attitude', 'rates', 'thrust', 'rate_commands', 'terminal',
    'thrust_lag', 'rate_lags', 'thrust_observer', 'force_observer',
)  # fmt: skip
#: Rehearses theta in all scenes, the second argument says whether with derivatives.
Rehearse = Callable[[np.ndarray], Sequence[Rehearsed]]


@dataclass(frozen=True)
class Settings:
    """How far rehearsals are trusted.

    Attributes:
        caution: what a change of a factor e in one entry of theta has to gain, as a share of the
            cost, against the theta that is held for right.
        step: largest change of a logarithm at a time.
        radius: largest change of a logarithm altogether.
        rehearsals: of all scenes at most.
        enough: share of the cost that a step has to promise to be rehearsed.
    """

    caution: float = 2e-3
    step: float = 1.0
    radius: float = 3.0
    rehearsals: int = 5
    enough: float = 0.01


@dataclass(frozen=True, eq=False)
class Tuned:
    """What rehearsals came to.

    Attributes:
        theta: the best.
        before, after: mean cost [m^2] of the theta that was begun with, and of the best.
        rmse: of the best [m].
        rehearsals: that were needed.
    """

    theta: np.ndarray
    before: float
    after: float
    rmse: float
    rehearsals: int


def tune(
    theta: np.ndarray, rehearse: Rehearse, settings: Settings, held: np.ndarray | None = None
) -> Tuned:
    """Lower the mean cost of the scenes.

    Args:
        theta: (N_THETA,) to begin with.
        rehearse: flies all scenes.
        settings: how far to go.
        held: the theta that changes are measured against; where it begins if None.
    """
    free = np.zeros(N_THETA, dtype=bool)
    for name in TUNED:
        free[BLOCKS[name]] = True
    free &= theta > 0
    low, high = np.maximum(SPACE.lower, 1e-6)[free], SPACE.upper[free]
    centre = np.log(np.maximum((theta if held is None else held)[free], low))
    y = np.log(theta[free])
    lowest = np.maximum(np.log(low), y - settings.radius)
    highest = np.minimum(np.log(high), y + settings.radius)

    def full(y: np.ndarray) -> np.ndarray:
        whole = theta.copy()
        whole[free] = np.clip(np.exp(y), low, high)
        return whole

    def evaluate(y: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        found = rehearse(full(y))
        scale = full(y)[free]
        cost = float(np.mean([each.cost for each in found]))
        gradient = np.mean([each.gradient for each in found], axis=0)[free] * scale
        hessian = np.mean([each.hessian for each in found], axis=0)[np.ix_(free, free)]
        rmse = float(np.sqrt(np.mean([each.rmse**2 for each in found])))
        return cost, rmse, gradient, hessian * np.outer(scale, scale)

    cost, rmse, gradient, hessian = evaluate(y)
    before, used, damping = cost, 1, 1e-2
    if not np.isfinite(cost):
        return Tuned(theta, cost, cost, rmse, used)
    caution = settings.caution * before

    def total(cost: float, y: np.ndarray) -> float:
        return cost + caution * float(np.sum((y - centre) ** 2))

    while used < settings.rehearsals:
        g = gradient + caution * (y - centre)
        H = hessian + caution * np.eye(len(y))
        scaled = H + damping * np.diag(np.diag(hessian) + caution)
        move = -np.linalg.solve(scaled, g)
        longest = float(np.abs(move).max())
        move *= min(1.0, settings.step / max(longest, 1e-12))
        promised = -(2 * g @ move + move @ H @ move)
        if promised < settings.enough * total(cost, y):
            break
        tried = np.clip(y + move, lowest, highest)
        found = evaluate(tried)
        used += 1
        if total(found[0], tried) < total(cost, y):
            y, (cost, rmse, gradient, hessian) = tried, found
            damping *= 0.2
        else:
            damping *= 10
    return Tuned(full(y), before, cost, rmse, used)
