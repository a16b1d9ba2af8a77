"""Optimisers from PyPI as rules, to compare with: they know the cost of what was flown, no more.

Each iteration flies one candidate. What to fly next is a function of all that was flown so far and
of one seed, so that an interrupted run goes on as if it had not been.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.learning.requests import NOMINAL, FlightRequest
from hmpc_ros.learning.rules import Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.learning.requests import Asking
    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.policy.parameters import Parameters, ParameterSpace

#: From the space, what was tried (k, n), what it cost (k,) and a seed to what to try next (n,).
Suggest = Callable[
    ['ParameterSpace', 'NDArray[np.float64]', 'NDArray[np.float64]', int], 'NDArray[np.float64]'
]
# First standard deviation of what is tried, as a share of the range: of logarithms within +-3 a
# quarter. With three times that most first flights of a quadcopter crash.
SPREAD = 1 / 24
MISSING = (
    "the rule '{rule}' needs a package that is not installed ({error}): "
    "pip install 'hmpc_ros[compare]', or pip install cma bayesian-optimization"
)


@dataclass(frozen=True)
class BlackBoxRule:
    """See the module's description."""

    suggest: Suggest  #: chooses what to fly
    tasks = 1  # the rule knows no others

    def iterate(
        self, k: int, policy: Parameters, memory: Memory, rng: np.random.Generator
    ) -> Asking[Step]:
        """Fly the candidate, and choose the next one."""
        (flown,) = yield [FlightRequest(policy, NOMINAL)]
        outcome = flown.outcome
        J = outcome.J if outcome.finite else math.inf
        best = float(np.min(memory['costs'])) if k else math.inf
        if not k and not math.isfinite(J):
            reason = f'the first flight has no cost: {flown.flight.ended or "it is not finite"}'
            return Step(flown, policy, accepted=False, reason=reason, diverged=True)
        remembered: Memory = {
            'tried': np.vstack((memory['tried'], policy.theta)) if k else policy.theta[None],
            'costs': np.append(memory['costs'], J) if k else np.array([J]),
            'seed': memory['seed'] if k else int(rng.integers(1, 2**31)),
        }
        costs = np.where(np.isfinite(remembered['costs']), remembered['costs'], np.nan)
        # What crashed is as bad as the worst that did not, and worse.
        costs = np.where(np.isnan(costs), 2 * np.nanmax(costs), costs)
        after = self.suggest(policy.space, remembered['tried'], costs, int(remembered['seed']))
        reason = '' if J < best else f'J = {J:.4g} is no better than {best:.4g}'
        return Step(
            flown, policy.with_theta(policy.space.project(after)), accepted=J < best,
            reason=reason, memory=remembered,
        )  # fmt: skip


def cma_es(
    space: ParameterSpace, tried: NDArray[np.float64], costs: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Suggest by CMA-ES (Hansen) with the defaults of `cma`, about the first that was tried.

    The first flight, of the mean, is not told: samples that the strategy did not draw mislead it.

    Raises:
        ValueError: cma is not installed.
    """
    try:
        import cma
    except ImportError as error:
        raise ValueError(MISSING.format(rule='cma', error=error)) from error
    start = tried[0]
    sigma = SPREAD * float(np.min(space.upper - space.lower))
    options = {
        'seed': seed, 'bounds': [space.lower, space.upper], 'verbose': -9, 'maxiter': 10**6,
    }  # fmt: skip
    strategy = cma.CMAEvolutionStrategy(start, sigma, options)
    size, done = strategy.popsize, len(tried) - 1
    for first in range(1, 1 + done - done % size, size):
        drawn = strategy.ask()
        strategy.tell(drawn, costs[first : first + size].tolist())
    return np.asarray(strategy.ask()[done % size])


def bayesian(
    space: ParameterSpace, tried: NDArray[np.float64], costs: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Suggest by a Gaussian process on log J with the defaults of `bayesian-optimization`.

    Its random beginning, ten flights, is drawn about the start and not all over the box, where
    nothing flies.

    Raises:
        ValueError: bayesian-optimization is not installed.
    """
    try:
        from bayes_opt import BayesianOptimization
    except ImportError as error:
        raise ValueError(MISSING.format(rule='bayesian', error=error)) from error
    done, size = len(tried), tried.shape[1]
    rng = np.random.default_rng([seed, done])
    if done <= 10:
        width = SPREAD * (space.upper - space.lower)
        return tried[0] + width * rng.standard_normal(size)
    names = [f'{i:03d}' for i in range(size)]
    bounds = dict(zip(names, zip(space.lower, space.upper, strict=True), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of the Gaussian process, about its own length scale
        optimiser = BayesianOptimization(
            None, bounds, random_state=int(rng.integers(2**31)), verbose=0,
            allow_duplicate_points=True,
        )  # fmt: skip
        for point, cost in zip(tried, costs, strict=True):
            optimiser.register(dict(zip(names, point, strict=True)), -math.log(cost))
        found = optimiser.suggest()
    return np.array([found[name] for name in names])
