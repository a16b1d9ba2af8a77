"""The MPC's cost weights: named (q, r, p) and as the one vector theta that learning changes.

    stage cost     x' Q x + u' R u     Q = diag(q^2) + 1e-6 I,  R = diag(r^2) + 1e-6 I
    terminal cost  x' P x              P = L L' + 1e-6 I,       p = tril(L), row by row
    theta = (q, r, p)                  12 + 4 + 78 = 94 numbers      (design.md, section 3)

This is the one place that converts between the two.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import NU, NX

N_TERMINAL = NX * (NX + 1) // 2
N_THETA = NX + NU + N_TERMINAL
REGULARISATION = 1e-6

Q_PART = slice(0, NX)
R_PART = slice(NX, NX + NU)
P_PART = slice(NX + NU, N_THETA)
TRIL_ROWS, TRIL_COLUMNS = np.tril_indices(NX)


@dataclass(frozen=True, eq=False)
class Weights:
    """Cost weights of the MPC.

    Attributes:
        q: (12,) square roots of the state weights.
        r: (4,) square roots of the input weights.
        p: (78,) lower triangle of the terminal weight's factor L, row by row.

    Raises:
        ValueError: a part has the wrong length or is not finite.
    """

    q: np.ndarray
    r: np.ndarray
    p: np.ndarray

    def __post_init__(self) -> None:
        """Take private read-only copies and check them."""
        for name, length in (('q', NX), ('r', NU), ('p', N_TERMINAL)):
            array = np.array(getattr(self, name), dtype=float)
            if array.shape != (length,):
                raise ValueError(f'weights {name} need {length} numbers, got {array.size}')
            if not np.all(np.isfinite(array)):
                raise ValueError(f'weights {name} must be finite, got {array}')
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def from_theta(cls, theta: np.ndarray) -> 'Weights':
        """Split theta (94,).

        Raises:
            ValueError: theta has the wrong length or is not finite.
        """
        theta = np.asarray(theta, dtype=float)
        if theta.shape != (N_THETA,):
            raise ValueError(f'theta needs {N_THETA} numbers, got shape {theta.shape}')
        return cls(theta[Q_PART], theta[R_PART], theta[P_PART])

    @classmethod
    def for_model(cls, model: LinearModel, q: np.ndarray, r: np.ndarray) -> 'Weights':
        """Return the weights whose terminal cost is the infinite-horizon one of (model, q, r).

        P solves the discrete algebraic Riccati equation for (A, B, diag(q^2), diag(r^2)): the
        start value of the reference experiment (design.md, section 3).

        Raises:
            ValueError: the equation has no stabilising solution for this model.
        """
        q, r = np.asarray(q, dtype=float), np.asarray(r, dtype=float)
        try:
            p = scipy.linalg.solve_discrete_are(model.A, model.B, np.diag(q**2), np.diag(r**2))
            factor = np.linalg.cholesky(p)
        except np.linalg.LinAlgError as error:
            raise ValueError(
                f'no terminal weight for this model: its Riccati equation fails ({error}); '
                'is (A, B) stabilisable and are all q and r non-zero?'
            ) from error
        return cls(q, r, factor[TRIL_ROWS, TRIL_COLUMNS])

    @property
    def theta(self) -> np.ndarray:
        """All weights as one vector (94,)."""
        return np.concatenate((self.q, self.r, self.p))

    @property
    def terminal_factor(self) -> np.ndarray:
        """L (12, 12), lower triangular."""
        factor = np.zeros((NX, NX))
        factor[TRIL_ROWS, TRIL_COLUMNS] = self.p
        return factor

    @property
    def state_weight(self) -> np.ndarray:
        """Q (12, 12)."""
        return np.diag(self.q**2 + REGULARISATION)

    @property
    def input_weight(self) -> np.ndarray:
        """R (4, 4)."""
        return np.diag(self.r**2 + REGULARISATION)

    @property
    def terminal_weight(self) -> np.ndarray:
        """P (12, 12)."""
        factor = self.terminal_factor
        return factor @ factor.T + REGULARISATION * np.eye(NX)
