"""What the derivatives of both kinds of MPC take their linear algebra from."""

import numpy as np

# A distance to a bound or a slack below this is the solver's rounding (its tolerance is 1e-8).
SMALLEST_DISTANCE = 1e-9


def eliminate(system: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn [S | right] (n, n + m, T) into [I | S^-1 right] for symmetric positive definite S.

    Gauss-Jordan elimination, for which definite matrices need no pivoting. numpy's batched LAPACK
    calls take longer than the rest of the recursion when the matrices are 4 by 4.

    Returns:
        The eliminated system (in place of the given one), and which S (T,) had positive pivots.
    """
    size = len(system)
    positive = np.ones(system.shape[-1], dtype=bool)
    with np.errstate(invalid='ignore', divide='ignore', over='ignore'):
        for j in range(size):
            positive &= system[j, j] > 0
            row = system[j] / system[j, j]
            system -= system[:, j, None] * row
            system[j] = row
    return system, positive
