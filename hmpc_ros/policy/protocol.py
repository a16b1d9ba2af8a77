"""What every MPC offers, whatever it solves: how solves end, and what has no derivative."""

import enum
from collections.abc import Sequence


class SolveStatus(enum.Enum):
    """How a solve ended; only `SUCCESS` has an input that may be flown."""

    SUCCESS = 'solved'
    INVALID_STATE = 'the state is not finite, or beyond all measure'
    SOLVER_ERROR = 'acados reports an error'
    NOT_CONVERGED = 'the QP solver did not converge'
    NOT_FINITE = 'the QP solver returned numbers that are not finite'


class MissingDerivativeError(RuntimeError):
    """Some solves of a flight failed: there u_0, and hence its derivative, does not exist.

    Attributes:
        steps: the indices of those solves.
        total: the number of solves of the flight.
    """

    def __init__(self, steps: Sequence[int], total: int) -> None:
        self.steps = tuple(int(step) for step in steps)
        self.total = int(total)
        shown = ', '.join(map(str, self.steps[:10])) + (', ...' if len(self.steps) > 10 else '')
        super().__init__(
            f'the flight has no model-based gradient: the MPC solve failed at {len(self.steps)} '
            f'of {self.total} steps ({shown})'
        )
