"""The MPC's cost weights: named (q, r, p) and as the one vector theta that learning changes.

    stage cost     x' Q x + u' R u     Q = diag(q^2) + 1e-6 I,  R = diag(r^2) + 1e-6 I
    terminal cost  x' P x              P = L L' + 1e-6 I,       p = tril(L), row by row
    soft bounds    l s + c s^2         s how far beyond, slack = (l, c) of each bounded state
    theta = (q, r, p)                  12 + 4 + 78 = 94 numbers; with slack, if that is learned, 112

This is the one place that converts between the two.
"""

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg

from hmpc_ros.plant.linear_model import LinearModel
from hmpc_ros.plant.quadcopter import NU, NX
from hmpc_ros.policy.linear.limits import N_BOUNDED, SLACK_L1, SLACK_L2
from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace

N_TERMINAL = NX * (NX + 1) // 2
REGULARISATION = 1e-6

TRIL_ROWS, TRIL_COLUMNS = np.tril_indices(NX)


#: Linear and quadratic cost (2, 9) of violated soft bounds where nothing else is said: the paper's.
SLACK = np.repeat([[SLACK_L1], [SLACK_L2]], N_BOUNDED, axis=1)
SLACK.setflags(write=False)


def space(
    q_max: float = 100.0, r_max: float = 100.0, p_max: float = 1000.0, learn_slack: bool = False
) -> ParameterSpace:
    """Return the blocks, with bounds on the magnitude of the weights' square roots.

    Only q^2, r^2 and L L' matter: their bounds are symmetric.
    """
    entries = NX * (NX + NU + 1)
    return ParameterSpace(
        (
            Block(
                'q', (NX,), -q_max, q_max,
                meaning='square roots of the state weights, Q = diag(q^2)',
            ),
            Block(
                'r', (NU,), -r_max, r_max,
                meaning='square roots of the input weights, R = diag(r^2)',
            ),
            Block(
                'p', (N_TERMINAL,), -p_max, p_max,
                meaning="lower triangle of L row by row, terminal weight P = L L'",
            ),
            Block(
                'slack', SLACK.shape, 1e-3, 1e4, SLACK_L1, learnable=learn_slack,
                meaning='linear cost of each violated soft bound (velocity, attitude, rates, 3 '
                'each), then their quadratic cost',
            ),
            Block(
                'model', (entries,), learnable=False,
                meaning='prediction model that goes with the weights: A, B and c, each row by row',
            ),
        )
    )  # fmt: skip


SPACE = space()
N_THETA = SPACE.size
Q_PART, R_PART, P_PART = (SPACE.parts[name] for name in 'qrp')


@dataclass(frozen=True, eq=False)
class Weights:
    """Cost weights of the MPC.

    Raises:
        ValueError: a part has the wrong length or is not finite, or a cost of slacks not positive.
    """

    q: np.ndarray  #: (12,) square roots of the state weights
    r: np.ndarray  #: (4,) square roots of the input weights
    p: np.ndarray  #: (78,) lower triangle of the terminal weight's factor L, row by row
    #: (2, 9) linear and quadratic cost of violated soft bounds
    slack: np.ndarray = field(default_factory=lambda: SLACK)

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
        slack = np.array(self.slack, dtype=float).reshape(SLACK.shape)
        if not (np.isfinite(slack).all() and (slack > 0).all()):
            raise ValueError(f'weights slack must be positive and finite, got {slack}')
        slack.setflags(write=False)
        object.__setattr__(self, 'slack', slack)

    @classmethod
    def from_theta(cls, theta: np.ndarray) -> 'Weights':
        """Split theta (94,).

        Raises:
            ValueError: theta has the wrong length or is not finite.
        """
        return cls(**SPACE.unpack(theta))

    @classmethod
    def of(cls, parameters: Parameters) -> 'Weights':
        """Return the weights among parameters, learned or not.

        Raises:
            ValueError: as the constructor.
        """
        blocks = {**parameters.fixed, **parameters.space.unpack(parameters.theta)}
        return cls(*(blocks[name] for name in ('q', 'r', 'p', 'slack')))

    def same_as(self, other: 'Weights') -> bool:
        """Tell whether all numbers are the same."""
        return all(np.array_equal(getattr(self, n), getattr(other, n)) for n in vars(self))

    @classmethod
    def for_model(
        cls, model: LinearModel, q: np.ndarray, r: np.ndarray, slack: np.ndarray = SLACK
    ) -> 'Weights':
        """Return the weights whose terminal cost is the infinite-horizon one of (model, q, r).

        P solves the discrete algebraic Riccati equation for (A, B, diag(q^2), diag(r^2)): the
        start value of the reference experiment (docs/reference_experiment.md).

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
        return cls(q, r, factor[TRIL_ROWS, TRIL_COLUMNS], slack)

    def refuse_unsolvable(self) -> None:
        """Refuse weights with which the QP solver does not come to an end.

        The bounds are those of `SPACE`, which learning keeps: the larger the weights beside the
        costs of slacks, the more iterations it takes, up to 49 of 50 at the bounds (acados, start
        weights of the reference vehicle times up to 100, 31 states). Beyond them solves fail: at
        q = 300 with the terminal weight that goes with it one of the 31, at q = 1000 18.

        Raises:
            ValueError: an entry of q, r or p is beyond its bounds, or all of r are zero, which
                leaves the inputs without a cost of their own.
        """
        for name, part in SPACE.parts.items():
            entry, most = np.abs(self.theta[part]).max(), SPACE.upper[part].max()
            if entry > most:
                raise ValueError(
                    f'policy.{name} is too large to be solved with: it has an entry of '
                    f'{entry:.4g}, at most {most:g} is allowed'
                )
        if not self.r.any():
            raise ValueError('policy.r must not be all 0: the inputs need a cost')

    @property
    def theta(self) -> np.ndarray:
        """q, r and p as one vector (94,)."""
        return SPACE.pack(vars(self))

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


def parameters_of(
    weights: Weights, model: LinearModel, within: ParameterSpace = SPACE
) -> Parameters:
    """Return weights and prediction model as one object, theta as a space has it."""
    slack = {} if 'slack' in within.parts else {'slack': weights.slack.ravel()}
    return Parameters(within, within.pack(vars(weights)), {**slack, 'model': model.entries})
