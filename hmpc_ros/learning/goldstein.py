"""How far weights are from where no descent is left: the Goldstein measure.

The paper's limit points are stationary in the sense of Goldstein: where J has kinks, no gradient
need be small, but 0 is a mean of gradients nearby. The measure is the shortest vector of the convex
hull of the gradients in a ball,

    min |sum_i w_i g_i|   over w_i >= 0, sum_i w_i = 1,   g_i = dJ/dtheta at |theta_i - theta| <= d

From a few samples it is an upper bound: more gradients can only make the hull larger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def least_norm(gradients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shortest convex combination (n,) of gradients (m, n).

    With w = s v, v in the simplex, |G' w|^2 + (sum w - 1)^2 is least over s at
    |G' v|^2 / (1 + |G' v|^2), which grows with |G' v|: non-negative least squares find v (Lawson
    and Hanson, Solving Least Squares Problems, 1974, chapter 23).
    """
    unit = float(np.linalg.norm(gradients, axis=1).max())
    if unit == 0:
        return np.zeros(gradients.shape[1])
    rows = np.vstack((gradients.T / unit, np.ones(len(gradients))))
    weights, _ = nnls(rows, np.append(np.zeros(gradients.shape[1]), 1.0))
    return weights @ gradients / weights.sum()


def goldstein(
    theta: NDArray[np.float64],
    gradient_at: Callable[[NDArray[np.float64]], NDArray[np.float64] | None],
    radius: float,
    samples: int,
    rng: np.random.Generator,
) -> float | None:
    """Return the Goldstein measure at weights (n,), from gradients there and about them.

    Args:
        theta: The weights.
        gradient_at: Of J at weights (n,); None where it has none, which is left out.
        radius: Of the ball.
        samples: Gradients at points that are uniform in the ball, beside that of its centre.
        rng: Draws them.

    Returns:
        The length of the shortest convex combination; None where no point has a gradient.
    """
    points = [theta]
    for _ in range(samples):
        direction = rng.standard_normal(theta.size)
        length = radius * rng.uniform() ** (1 / theta.size) / np.linalg.norm(direction)
        points.append(theta + length * direction)
    found = [gradient for point in points if (gradient := gradient_at(point)) is not None]
    return float(np.linalg.norm(least_norm(np.array(found)))) if found else None
