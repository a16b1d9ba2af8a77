"""Update rules: what an iteration of learning does, between one set of weights and the next.

A rule is the algorithm of one iteration, written from top to bottom as a generator that asks for
its flights (``hmpc_ros.learning.requests``). It keeps no state of its own between iterations: what
must survive is its ``memory``, a flat dictionary of numbers and arrays that ``TrainingRun`` stores
with every finished iteration and hands back, also after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hmpc_ros.learning.requests import NOMINAL, FlightRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.learning.estimators import Estimator
    from hmpc_ros.learning.requests import Asking, Evaluation
    from hmpc_ros.learning.safety import Safeguard
    from hmpc_ros.learning.schedules import StepSize
    from hmpc_ros.policy.parameters import Parameters

Memory = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Step:
    """What one iteration came to."""

    #: the flight that stands for the iteration: its weights and cost are recorded
    nominal: Evaluation
    next: Parameters  #: what to fly in the next iteration
    accepted: bool = True  #: whether the nominal flight's weights are kept
    reason: str = ''  #: why not, as a sentence; empty otherwise
    #: what the rule wants to know again in the next iteration
    memory: Memory = field(default_factory=dict)
    #: numbers for the record: norms of the gradients, their agreement, step size, trust
    details: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  #: what went wrong on the way, as sentences
    diverged: bool = False  #: whether learning cannot go on from here

    @property
    def next_theta(self) -> NDArray[np.float64]:
        """The weights of the next iteration, (n,)."""
        return self.next.theta


class Rule(Protocol):
    """The algorithm of one iteration."""

    @property
    def tasks(self) -> int:
        """How many tasks (starts and goals) the objective is the mean over."""
        ...

    def iterate(
        self, k: int, policy: Parameters, memory: Memory, rng: np.random.Generator
    ) -> Asking[Step]:
        """Fly ``policy`` and whatever else is needed, and decide on the next.

        Args:
            k: Iteration, 0, 1, ...
            policy: What the last iteration chose.
            memory: What the last iteration left; empty in the first.
            rng: Source of randomness of this iteration alone, so that a resumed run draws the same.
        """
        ...


@dataclass(frozen=True)
class PaperRule:
    """The paper's projected gradient step, with any estimator of the gradient.

        theta <- Proj_Theta[ theta - alpha_k g_k ]

    Without a safeguard this is exactly the paper's rule; a flight that runs away then ends the run.
    With one, weights whose flight is not acceptable are rolled back, and the steps from the last
    accepted weights are made smaller.
    """

    estimator: Estimator  #: supplies g_k
    step_size: StepSize  #: alpha_k
    safeguard: Safeguard | None = None  #: decides which weights are kept; None keeps all
    tasks = 1  # the rule knows no others

    def iterate(
        self, k: int, policy: Parameters, memory: Memory, rng: np.random.Generator
    ) -> Asking[Step]:
        """Fly the policy, estimate the gradient there, step against it."""
        (nominal,) = yield [FlightRequest(policy, NOMINAL, with_solutions=True)]
        if self.safeguard is None:
            if not nominal.outcome.finite:
                reason = f'the flight has no cost: {nominal.flight.ended or "it is not finite"}'
                return Step(nominal, policy, accepted=False, reason=reason, diverged=True)
            scale = 1.0
        else:
            reason, memory = self.safeguard.judge(nominal, memory)
            if reason:
                back = memory.get('accepted_theta')
                if back is None:
                    return Step(nominal, policy, accepted=False, reason=reason, diverged=True)
                back = policy.with_theta(back)
                return Step(nominal, back, accepted=False, reason=reason, memory=memory)
            scale = memory['step_scale']

        estimate = yield from self.estimator.estimate(nominal, k, rng)
        alpha = scale * self.step_size(k)
        theta = policy.space.project(policy.theta - alpha * estimate.gradient)
        return Step(
            nominal,
            policy.with_theta(theta),
            memory=memory,
            details={
                'norm_model': _norm(estimate.model),
                'norm_free': _norm(estimate.free),
                'agreement': estimate.agreement,
                'trust': estimate.trust,
                'step_size': alpha,
            },
            notes=estimate.notes,
        )


def _norm(vector: NDArray[np.float64] | None) -> float | None:
    return None if vector is None else float(np.linalg.norm(vector))
