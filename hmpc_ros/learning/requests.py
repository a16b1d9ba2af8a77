"""How the learning core asks for flights without knowing who flies them.

Whatever needs flights is written as a generator: it yields a list of ``FlightRequest``, which may
be flown in any order or at once, and is sent the list of their ``Evaluation``. So the same code,
line by line, runs in a loop over the rollout here, on a pool of processes, and in a ROS node that
flies one request after the other over topics and must not block while it waits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hmpc_ros.learning.objective import Objective, Outcome
    from hmpc_ros.policy.flight import Flight
    from hmpc_ros.policy.parameters import Parameters

NOMINAL = 'nominal'
PERTURBED = 'perturbed'
CLOSING = 'closing'

Result = TypeVar('Result')


@dataclass(frozen=True, eq=False)
class FlightRequest:
    """Please fly the vehicle once under this policy."""

    parameters: Parameters  #: all that decides what the policy commands during the flight
    #: ``nominal`` (weights that are to be kept), ``perturbed`` (a trial that never stays on the
    #: vehicle) or ``closing`` (the last flight of a run, which only measures)
    purpose: str
    #: whether the MPC's solutions are wanted along with the flight; without them it has a cost but
    #: its gradient needs every step solved again
    with_solutions: bool = False
    #: number of the flight in its run; a simulated vehicle's noise depends on it alone
    number: int = 0
    task: int = 0  #: which of the run's tasks (start and goal) to fly

    @property
    def theta(self) -> NDArray[np.float64]:
        """The learnable ones of the parameters, (n,)."""
        return self.parameters.theta


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A flight that was asked for, and what it cost."""

    request: FlightRequest
    flight: Flight
    outcome: Outcome

    @property
    def theta(self) -> NDArray[np.float64]:
        """The weights flown, (n,)."""
        return self.request.theta


Asking = Generator[list[FlightRequest], list[Evaluation], Result]
Fly = Callable[[FlightRequest], 'Flight']


def answer(asking: Asking[Result], fly: Fly, objective: Objective) -> Result:
    """Serve every request of a generator by flying it at once; return the generator's result."""
    try:
        requests = next(asking)
        while True:
            flights = [(request, fly(request)) for request in requests]
            evaluations = [Evaluation(r, f, objective.cost(f)) for r, f in flights]
            requests = asking.send(evaluations)
    except StopIteration as stop:
        return stop.value
