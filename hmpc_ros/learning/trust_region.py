"""The default rule: one trust region, one test.

A model of the cost (`Model`), which all flights teach, is rehearsed at no flight's cost. Every
iteration

* flies one candidate, and lets the model learn from it;
* tests ``J(candidate) - J(incumbent)``. Two estimates of it, of the model (rehearsed) and of the
  flights (measured), are one after weighing each by its variance. While the test is undecided at
  its level and the candidate may still be worth it, one of the two flies again. Flights without
  noise are the case of variance zero: nothing weighs but they, and nothing is left to decide;
* adapts the radius of the trust region by the actual over the predicted change of J (Conn, Gould,
  Toint, Trust-Region Methods, 2000, algorithm 6.1.1, with the constants of scipy's
  `_trustregion.py`);
* asks the model for a better candidate inside the region. When it promises nothing any more, a new
  descent begins elsewhere, near the incumbent.

What a radius means is the model's business; what is worth a flight is a share of what was gained so
far. So neither adding to the cost nor scaling it changes what the rule flies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.learning.difference import Difference
from hmpc_ros.learning.model import ACCEPTABLE, Point, Region, adapted, moved
from hmpc_ros.learning.objective import mean_outcome
from hmpc_ros.learning.requests import NOMINAL, PERTURBED, Evaluation, FlightRequest
from hmpc_ros.learning.rules import Step
from hmpc_ros.learning.trust_region_state import Progress, kept, recalled
from hmpc_ros.plant.declared import about

if TYPE_CHECKING:
    from hmpc_ros.learning.model import Model
    from hmpc_ros.learning.requests import Asking
    from hmpc_ros.learning.rules import Memory
    from hmpc_ros.policy.parameters import Parameters

# What a descent must promise to go on, as a share of what was gained so far, halved for each in a
# row that led to nothing. Measured: 0.05 of J on the nominal case, where tables show 0.1.
WORTH = 5e-4
# A descent may begin so far above the incumbent, as a share of what was gained: half-way back.
HOPELESS = 0.5


@dataclass(frozen=True)
class Settings:
    """Settings of the rule."""

    probes: int = field(
        default=3,
        metadata=about('flights under slightly perturbed weights at the start', low=0, high=100),
    )
    probe_size: float = field(
        default=0.05, metadata=about('length of their perturbation of theta', low=1e-9)
    )
    radius: float = field(
        default=0.1,
        metadata=about(
            'radius of the trust region at the start of a descent, as a share of theta, in units '
            'of what its entries do to J',
            low=1e-6,
            high=1.0,
        ),
    )
    rehearsals: int = field(
        default=2,
        metadata=about(
            'steps that are rehearsed between two flights at most; they cost computing time, no '
            'flights',
            low=1,
            high=100,
        ),
    )
    refit: bool = field(
        default=True,
        metadata=about("whether the MPC's prediction model may be learned along with its weights"),
    )
    level: float = field(
        default=0.05,
        metadata=about(
            'probability with which the test of two noisy costs may err', low=1e-6, high=0.5
        ),
    )
    repeats: int = field(
        default=6,
        metadata=about(
            'flights of one candidate at most, where flights are noisy; also attempts at most '
            'until something flies at all',
            low=1,
            high=100,
        ),
    )


@dataclass(eq=False)
class TrustRegionRule:
    """See the module's description.

    Attributes:
        start: What the run starts with.
        model: Makes a model that has learned nothing yet, given the iteration's randomness.
        settings: How the rule goes about it.
        tasks: Number of tasks (starts and goals); the objective is the mean over them.
    """

    start: Parameters
    model: Callable[[np.random.Generator], Model]
    settings: Settings = field(default_factory=Settings)
    tasks: int = 1

    def iterate(
        self, k: int, policy: Parameters, memory: Memory, rng: np.random.Generator
    ) -> Asking[Step]:
        """Fly the candidate, again while the test is undecided, and plan the next one."""
        iteration = _Iteration(self, k, policy, memory, rng)
        requests, unit = iteration.requests(policy), policy.space.scale
        for i in range(self.settings.probes if k == 0 else 0):
            v = rng.standard_normal(unit.size)
            probe = moved(policy, self.settings.probe_size * unit * v / np.linalg.norm(v))
            requests.append(FlightRequest(probe, PERTURBED, task=i % self.tasks))
        iteration.take((yield requests))
        while (again := iteration.to_fly_again()) is not None:
            iteration.repeat(again, (yield iteration.requests(again.parameters)))
        return iteration.finish()


class _Iteration:
    """One iteration of the rule: what it knew, what it is told, what it decides."""

    def __init__(
        self,
        rule: TrustRegionRule,
        k: int,
        candidate: Parameters,
        memory: Memory,
        rng: np.random.Generator,
    ) -> None:
        self.rule, self.k, self.candidate, self.settings = rule, k, candidate, rule.settings
        self.model = rule.model(rng)
        self.progress = Progress(self.settings.radius)
        self.base: Point | None = None  # where the present descent stands
        self.incumbent: Point | None = None  # the best, as flights prove
        self.point: Point | None = None  # the candidate, where it flew whole
        if memory:
            self.progress.restore(memory)
            self.model.restore(memory)
            self.incumbent, self.base = recalled(memory, rule.start, self.model.kept)

    def requests(self, policy: Parameters) -> list[FlightRequest]:
        """Ask for a flight of each task."""
        return [
            FlightRequest(policy, NOMINAL, with_solutions=self.model.wants_solutions, task=task)
            for task in range(self.rule.tasks)
        ]

    # -- what is told --------------------------------------------------------------------------

    def take(self, flown: list[Evaluation]) -> None:
        """Learn from the first flights of the iteration."""
        self.model.learn(flown)
        nominal, progress = flown[: self.rule.tasks], self.progress
        outcome = mean_outcome([e.outcome for e in nominal])
        self.lead = Evaluation(nominal[0].request, nominal[0].flight, outcome)
        if not outcome.finite or any(
            e.flight.failed_steps or not e.flight.complete for e in nominal
        ):
            return
        self.point = Point(self.candidate, self.k, outcome.J, kept=self.model.keep(nominal))
        costs = [e.outcome.J for e in flown if e.outcome.finite]
        if self.model.noisy and self.k == 0 and self.rule.tasks == 1 and len(costs) > 1:
            # Noise changes the costs of probes more than their perturbation does.
            self.point.J, self.point.flights = float(np.mean(costs)), len(costs)
            progress.squares, progress.freedom = float(np.var(costs) * len(costs)), len(costs) - 1
        if self.k and self._flight_variance:
            self._learn_bias(self.point)

    def to_fly_again(self) -> Point | None:
        """Return which of candidate and incumbent is to be flown again; None: it is decided."""
        point, incumbent, most = self.point, self.incumbent, self.settings.repeats
        if point is None or point.flights >= most:
            return None
        if not self.model.noisy:
            # Where one flight does not tell its noise a pair does, once.
            return point if self.model.noisy is None and point.flights == 1 else None
        if not self.progress.freedom:
            return point
        if incumbent is None:
            return None
        test = self._difference(point, incumbent)
        if test.decided(self.settings.level) or not test.hope > self._worth():
            return None
        # As things look now, would it be decided when both have flown as often as they may?
        variance = self._variance(replace(point, flights=most), replace(incumbent, flights=most))
        last = replace(test, deviation=math.sqrt(test.measured * variance))
        if test.value >= 0 or not last.decided(self.settings.level):
            return None
        return min((incumbent, point), key=lambda one: one.flights)

    def repeat(self, point: Point, flown: list[Evaluation]) -> None:
        """Take flights of a point that was flown before."""
        self.model.learn(flown, point)
        J = mean_outcome([e.outcome for e in flown]).J
        if not math.isfinite(J):
            point.J, point.flights = math.inf, self.settings.repeats
            return
        surprise = J - point.J
        point.flights += 1
        point.J += surprise / point.flights
        self.progress.squares += surprise * (J - point.J)
        self.progress.freedom += 1

    # -- what is decided -----------------------------------------------------------------------

    def finish(self) -> Step:
        """Judge the candidate, adapt the region, plan the next."""
        progress, point, base = self.progress, self.point, self.base
        accepted, reason, share = self._judge(point)
        ratio = None
        if base is not None and math.isfinite(progress.predicted):
            ratio = self._judge_prediction(base, point)
        details = {
            'radius': progress.radius,
            'ratio': ratio,
            'predicted_change': progress.predicted,
            'measured_change': point.J - base.J if point and base else math.nan,
            # Of the model and of the flights in the estimate of J(candidate) - J(incumbent).
            'trust': None if share is None else 1 - share,
            'share_of_flights': share,
        }
        before = base or self.incumbent
        if accepted:
            self.incumbent, progress.fruitless = point, 0
        self._move_base(ratio, accepted)
        best, candidate = self.incumbent, self._plan(before)
        if candidate is None:
            reason = f'nothing was found that flies: {reason}'
            return Step(self.lead, self.candidate, accepted=False, reason=reason, diverged=True)
        details |= {'best_J': best.J if best else None, 'best_k': best.k if best else None}
        points = kept(self.incumbent, self.base, self.model.kept)
        return Step(
            self.lead,
            candidate,
            accepted=accepted,
            reason=reason,
            memory={**self.progress.arrays(), **self.model.arrays(), **points},
            details={**details, **self.model.details},
            notes=tuple(self.model.notes),
        )

    def _judge(self, point: Point | None) -> tuple[bool, str, float | None]:
        """Return whether the candidate is the new incumbent, why not, and the flights' share."""
        progress, incumbent = self.progress, self.incumbent
        if point is None:
            return False, self.lead.flight.ended or 'the flight is not whole or not finite', None
        if math.isnan(progress.start):
            progress.start, progress.start_flights = point.J, point.flights
        if incumbent is None:
            return True, '', None
        test = self._difference(point, incumbent)
        if test.value < 0 and test.decided(self.settings.level):
            return True, '', test.measured
        reason = f'J = {point.J:.6g} is not proved to be below {incumbent.J:.6g}, the best'
        return False, reason, test.measured

    def _judge_prediction(self, base: Point, point: Point | None) -> float:
        """Compare the change of J with what was predicted; adapt the region by it."""
        progress, ratio = self.progress, -math.inf
        if not progress.predicted < 0 and not progress.exploring:
            ratio = 0.0  # nothing was promised
        elif point is not None and progress.predicted:
            ratio = self._difference(point, base).value / progress.predicted
        if not progress.exploring:
            progress.radius = adapted(progress.radius, ratio, progress.boundary, self.model.widest)
        return ratio

    def _move_base(self, ratio: float | None, accepted: bool) -> None:
        """Go on from the candidate, or from where the descent stood."""
        point, progress = self.point, self.progress
        if accepted or (ratio is not None and ratio > ACCEPTABLE and not progress.exploring):
            self.base = point
        elif progress.exploring or self.base is None:
            worse = math.inf
            if point is not None and self.incumbent is not None:
                worse = self._difference(point, self.incumbent).value
            self.base = point if worse <= HOPELESS * self._gain() else None

    def _plan(self, before: Point | None) -> Parameters | None:
        """Choose what to fly next; None: there is nothing left to try.

        Args:
            before: Where the descent stood; None: nothing had flown.
        """
        progress, model = self.progress, self.model
        if self.incumbent is None:
            progress.predicted = math.nan
            return model.rescue() if self.k + 1 < self.settings.repeats else None
        proposal = None
        if self.base is not None:
            own = self.base.parameters
            new = before is None or bool(own.fixed_beside(before.parameters.fixed))
            proposal = model.improve(self.base, self._region(), new)
        progress.exploring = proposal is None
        if proposal is None:
            progress.explored += 1
            progress.fruitless += 1
            progress.radius = self.settings.radius
            proposal = model.explore(self.incumbent, self._region(), progress.explored - 1)
        progress.radius, progress.predicted = proposal.radius, proposal.predicted
        progress.boundary = proposal.boundary
        return proposal.candidate

    def _region(self) -> Region:
        return Region(self.progress.radius, self._worth(), HOPELESS * self._gain())

    # -- what is known of costs ----------------------------------------------------------------

    def _learn_bias(self, point: Point) -> None:
        """Learn how wrong rehearsed changes of J are, by all that was changed since the start."""
        progress = self.progress
        rehearsed = self.model.cost(point.parameters) - self.model.cost(self.rule.start)
        measured = point.J - progress.start
        if not math.isfinite(rehearsed) or not rehearsed:
            return
        variance = self._flight_variance * (1 / point.flights + 1 / progress.start_flights)
        weight = rehearsed**2 / (rehearsed**2 + variance)
        error = max(0.0, (measured - rehearsed) ** 2 - variance) / rehearsed**2
        progress.error += weight * min(1.0, error)
        progress.judged += weight

    @property
    def _flight_variance(self) -> float:
        """That of the costs of flights of the same policy."""
        return self.progress.squares / max(1, self.progress.freedom) if self.model.noisy else 0.0

    def _variance(self, point: Point, other: Point) -> float:
        """Return that of the difference of two points' measured costs."""
        return self._flight_variance * (1 / point.flights + 1 / other.flights)

    def _difference(self, point: Point, other: Point) -> Difference:
        """Return J(point) - J(other): what was measured and what is rehearsed, as one estimate."""
        measured, variance = point.J - other.J, self._variance(point, other)
        if not variance > 0:
            return Difference(measured, 0.0, 1.0)
        rehearsed = self.model.cost(point.parameters) - self.model.cost(other.parameters)
        if not math.isfinite(rehearsed):
            return Difference(measured, math.sqrt(variance), 1.0)
        bias = self.progress.error / self.progress.judged * rehearsed**2
        share = bias / (bias + variance)
        value = share * measured + (1 - share) * rehearsed
        return Difference(value, math.sqrt(share * variance), share)

    def _gain(self) -> float:
        """Return by how much J was made smaller so far."""
        return max(0.0, self.progress.start - self.incumbent.J) if self.incumbent else 0.0

    def _worth(self) -> float:
        """Return the least change of J that is worth a flight."""
        return WORTH * 0.5**self.progress.fruitless * self._gain()
