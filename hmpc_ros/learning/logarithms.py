"""Any rule on the logarithms of chosen entries of theta: for positive numbers that span decades."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.learning.requests import Asking, Evaluation
    from hmpc_ros.learning.rules import Memory, Rule, Step


@dataclass(frozen=True, eq=False)
class Logarithms:
    """Parameters seen as the logarithms of some of theta's entries; the others stay the start's."""

    start: Parameters  #: what is begun with
    free: NDArray[np.bool]  #: (n,) which entries; those must be positive
    reach: float  #: how far a logarithm may go from the start's, within the space's own bounds

    def __post_init__(self) -> None:
        if not (self.start.theta[self.free] > 0).all():
            raise ValueError('only positive numbers have logarithms')

    @property
    def space(self) -> ParameterSpace:
        """Of the logarithms, (m,)."""
        own, centre = self.start.space, np.log(self.start.theta[self.free])
        least = np.log(np.maximum(own.lower[self.free], 1e-12))
        most = np.log(own.upper[self.free])
        low, high = np.maximum(least, centre - self.reach), np.minimum(most, centre + self.reach)
        return ParameterSpace((Block('logarithms', (len(centre),), low, high),))

    def of(self, policy: Parameters) -> Parameters:
        """Return parameters by their logarithms."""
        return Parameters(self.space, np.log(policy.theta[self.free]))

    def back(self, logarithms: Parameters) -> Parameters:
        """Return what logarithms stand for."""
        theta = self.start.theta.copy()
        theta[self.free] = np.exp(logarithms.theta)
        return self.start.with_theta(self.start.space.project(theta))

    def slope(self, gradient: NDArray[np.float64], logarithms: Parameters) -> NDArray[np.float64]:
        """Return dJ/dlogarithms (m,) of dJ/dtheta (n,)."""
        return gradient[self.free] * np.exp(logarithms.theta)


@dataclass(frozen=True, eq=False)
class LogarithmicRule:
    """A rule that sees logarithms, where whoever flies and keeps records sees theta."""

    rule: Rule
    logarithms: Logarithms

    @property
    def tasks(self) -> int:
        """The rule's."""
        return self.rule.tasks

    def iterate(
        self, k: int, policy: Parameters, memory: Memory, rng: np.random.Generator
    ) -> Asking[Step]:
        """Iterate the rule; translate what it asks for and what it is told."""
        see, back = self.logarithms.of, self.logarithms.back
        asking = self.rule.iterate(k, see(policy), memory, rng)
        told: list[Evaluation] | None = None
        while True:
            try:
                asked = asking.send(told)  # type: ignore[arg-type]
            except StopIteration as stop:
                step: Step = stop.value
                flown = step.nominal
                request = replace(flown.request, parameters=back(flown.request.parameters))
                return replace(step, nominal=replace(flown, request=request), next=back(step.next))
            found = yield [replace(each, parameters=back(each.parameters)) for each in asked]
            told = [replace(e, request=r) for e, r in zip(found, asked, strict=True)]
