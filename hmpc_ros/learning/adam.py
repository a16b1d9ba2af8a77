"""Adam on an estimate of the closed-loop gradient (Kingma and Ba, 2015), with a way back.

    m <- b1 m + (1 - b1) g         v <- b2 v + (1 - b2) g^2
    theta <- Proj_Theta[ theta - alpha m^ / (sqrt(v^) + eps) ]        m^ = m / (1 - b1^k), v^ alike

Every weight moves by about alpha per step, whatever the size of the gradient: a gradient that
points the right way is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.learning.requests import NOMINAL, FlightRequest
from hmpc_ros.learning.rules import Step
from hmpc_ros.learning.safety import Safeguard

if TYPE_CHECKING:
    from hmpc_ros.learning.estimators import Estimator
    from hmpc_ros.learning.requests import Asking
    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.policy.parameters import Parameters

EPSILON = 1e-12
# Without another safeguard: go back when J is by this share above the best.
BACK = 0.3


@dataclass(frozen=True)
class AdamRule:
    """See the module's description.

    Raises:
        ValueError: When a number is outside its range.
    """

    estimator: Estimator  #: supplies the gradient
    step_size: float  #: alpha
    safeguard: Safeguard | None = None  #: decides which weights are not followed further
    first_moment: float = 0.9  #: b1
    second_moment: float = 0.9  #: b2
    tasks = 1  # the rule knows no others

    def __post_init__(self) -> None:
        if not self.step_size > 0:
            raise ValueError(f"Adam's step size must be positive, got {self.step_size}")
        if not (0 <= self.first_moment < 1 and 0 <= self.second_moment < 1):
            raise ValueError("Adam's moments must be at least 0 and below 1")

    def iterate(
        self, k: int, policy: Parameters, memory: Memory, rng: np.random.Generator
    ) -> Asking[Step]:
        """Fly the policy, estimate the gradient there, and take a step of Adam."""
        (nominal,) = yield [FlightRequest(policy, NOMINAL, with_solutions=True)]
        theta = policy.theta
        J, best = nominal.outcome.J, memory.get('best_J', np.inf)
        guard = self.safeguard or Safeguard(margin=BACK)
        reason = guard.objection(nominal, best)
        if reason:
            if 'best_theta' not in memory:
                return Step(nominal, policy, accepted=False, reason=reason, diverged=True)
            # The moments led here: forget them, and take smaller steps from the best weights.
            scale = guard.shrink * memory['scale']
            kept = {name: memory[name] for name in ('best_J', 'best_theta')}
            return Step(
                nominal,
                policy.with_theta(memory['best_theta']),
                accepted=False,
                reason=reason,
                memory={**kept, 'scale': scale},
            )
        if J < best:
            best, memory = J, {**memory, 'best_theta': theta}
        estimate = yield from self.estimator.estimate(nominal, k, rng)
        g, zero = estimate.gradient, np.zeros_like(theta)
        steps, scale = memory.get('steps', 0) + 1, memory.get('scale', 1.0)
        m = self.first_moment * memory.get('mean', zero) + (1 - self.first_moment) * g
        v = self.second_moment * memory.get('square', zero) + (1 - self.second_moment) * g * g
        mean = m / (1 - self.first_moment**steps)
        square = v / (1 - self.second_moment**steps)
        alpha = scale * self.step_size
        moved = theta - alpha * mean / (np.sqrt(square) + EPSILON)
        return Step(
            nominal,
            policy.with_theta(policy.space.project(moved)),
            memory={
                'best_J': best,
                'best_theta': memory['best_theta'],
                'scale': scale,
                'steps': steps,
                'mean': m,
                'square': v,
            },
            details={
                'norm_model': None if estimate.model is None else float(np.linalg.norm(g)),
                'step_size': alpha,
            },
            notes=estimate.notes,
        )
