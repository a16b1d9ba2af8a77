"""What the trust region's rule (`trust_region.py`) asks of a model of the cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hmpc_ros.learning.requests import Evaluation
    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.policy.parameters import Parameters

# Of scipy's `_trustregion.py`: the least share of the promised change that is accepted, the shares
# below which the region shrinks and above which it grows (where the step ends on its boundary), and
# by how much.
ACCEPTABLE, POOR, GOOD, SHRINK, GROW = 0.15, 0.25, 0.75, 0.25, 2.0


@dataclass(eq=False)
class Point:
    """Parameters with what their flights of all tasks came to.

    Attributes:
        parameters, k: What flew, and the iteration that flew it.
        J: Mean cost of its flights.
        flights: How often it was flown.
        kept: What the model keeps of its first flights; of it, arrays survive the iteration.
    """

    parameters: Parameters
    k: int
    J: float
    flights: int = 1
    kept: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Region:
    """Where a model is believed.

    Attributes:
        radius: How far candidates may be from the incumbent, in the model's units.
        worth: The least change of J that is worth a flight.
        hopeless: A new descent may begin so far above the incumbent's J.
    """

    radius: float
    worth: float
    hopeless: float


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a model would fly next.

    Attributes:
        candidate: The parameters.
        radius: Of the region, after what the rehearsals taught about it.
        predicted: By how much J is to change; NaN: not said.
        boundary: Whether a larger region could have promised more.
    """

    candidate: Parameters
    radius: float
    predicted: float = math.nan
    boundary: bool = False


class Model(Protocol):
    """What flights teach of the cost; one lives for an iteration, from `restore` to `arrays`."""

    #: What went wrong on the way, as sentences.
    notes: list[str]
    #: For the record.
    details: dict[str, Any]

    @property
    def widest(self) -> float:
        """The largest radius, in its own units."""
        ...

    @property
    def wants_solutions(self) -> bool:
        """Whether flights are to come with the policy's solutions."""
        ...

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the arrays that it keeps of a point's flights."""
        ...

    @property
    def noisy(self) -> bool | None:
        """Whether flights are noisy; None: to be told by flying a point twice."""
        ...

    def learn(self, flown: Sequence[Evaluation], again: Point | None = None) -> None:
        """Learn from flights; `again`: they repeat those of a point."""
        ...

    def keep(self, flown: Sequence[Evaluation]) -> Mapping[str, Any]:
        """Return what has to be known of a point's whole flights, one of each task."""
        ...

    def cost(self, parameters: Parameters) -> float:
        """Return J without noise, as rehearsals have it; not finite: it cannot say."""
        ...

    def rescue(self) -> Parameters | None:
        """Return what to fly where nothing has flown whole so far; None: it does not know."""
        ...

    def improve(self, base: Point, region: Region, new: bool) -> Proposal | None:
        """Return a candidate better than the base; None: none is worth a flight.

        Args:
            base: Where the descent stands.
            region: About it.
            new: Whether nothing flew before, or not with what of it is not learned: to refit what
                the policy believes has helped then, and may again.
        """
        ...

    def explore(self, incumbent: Point, region: Region, turn: int) -> Proposal:
        """Return where a new descent begins, the turn-th (0, 1, ...)."""
        ...

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return all that it has learned, to be kept."""
        ...

    def restore(self, memory: Memory) -> None:
        """Take over what `arrays` returned."""
        ...


def adapted(radius: float, ratio: float, boundary: bool, widest: float) -> float:
    """Return the radius after an actual over a predicted change."""
    if not ratio >= POOR:
        return SHRINK * radius
    return min(widest, GROW * radius) if ratio > GOOD and boundary else radius


def moved(policy: Parameters, change: NDArray[np.float64]) -> Parameters:
    """Return the policy with another theta, inside its space."""
    return policy.with_theta(policy.space.project(policy.theta + change))
