"""A training run: a rule's iterations, flight by flight, whoever flies them, resumable.

The run asks and is told::

    run = TrainingRun(rule, objective, theta, results, iterations=200, seed=0)
    while (request := run.next_request()) is not None:
        run.report(request, fly(request))

``next_request`` may be called again before the last answer arrived: it returns the next flight that
may be flown at the same time, or None while all that are due are under way (``finished`` tells the
two kinds of None apart). Each finished iteration is appended to the results folder; a run that
starts on a folder with finished iterations goes on after the last of them with the same numbers as
an unbroken run, because the randomness of iteration k comes from (seed, k) and all that a rule
remembers is stored with the iteration.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.learning.objective import mean_outcome
from hmpc_ros.learning.requests import CLOSING, Evaluation, FlightRequest
from hmpc_ros.learning.results import ResultsFolder, recorded, to_record
from hmpc_ros.learning.summary import best_record, tells_best

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from hmpc_ros.learning.objective import Costs
    from hmpc_ros.learning.requests import Asking
    from hmpc_ros.learning.results import Record
    from hmpc_ros.learning.rules import Rule, Step
    from hmpc_ros.policy.flight import Flight
    from hmpc_ros.policy.parameters import Parameters


@contextmanager
def open_run(
    folder: Path | str,
    header: Record,
    rule: Rule,
    objective: Costs,
    start: Parameters,
    *,
    iterations: int,
    flights: int = 0,
) -> Iterator[TrainingRun]:
    """Begin the run that a header describes in a results folder, or go on with it.

    The folder is closed at the end, and then holds all records. The header tells the seed; the
    other arguments are those of `TrainingRun`, with 0 flights for as many as are needed.

    Raises:
        ResultsError: The folder is in use, damaged, or holds another run.
    """
    with ResultsFolder(folder, header) as results:
        results.refuse_another_run(header)
        yield TrainingRun(
            rule, objective, start, results, iterations=iterations, seed=header['seed'],
            flights=flights or None,
        )  # fmt: skip


class TrainingRun:
    """Drives a rule through its iterations and keeps the results.

    After the last iteration one closing flight measures the weights that it chose, so that a run of
    n iterations tells the cost of n + 1 weights.

    Args:
        rule: The algorithm of one iteration.
        objective: What flights cost.
        start: What to begin with; a run that goes on takes its own from the results instead.
        results: Where iterations are kept, open for appending.
        iterations: How many iterations the run has in total.
        seed: Of all randomness of the rule.
        flights: No iteration begins after so many flights; None: whatever they need.

    Attributes:
        policy: What the present iteration flies as nominal.
        k: The present iteration.
        stopped: Why the run cannot go on, empty when it can.
    """

    def __init__(
        self,
        rule: Rule,
        objective: Costs,
        start: Parameters,
        results: ResultsFolder,
        *,
        iterations: int,
        seed: int,
        flights: int | None = None,
    ) -> None:
        self.rule = rule
        self.objective = objective
        self.results = results
        self.total = int(iterations)
        self.seed = int(seed)
        self.most_flights = flights
        self.stopped = ''

        done = results.iterations
        self.k = len(done)
        self.start = start
        self.policy = recorded(start, done[-1], 'next_') if done else start
        self._memory = results.memory
        self._flights = done[-1]['flights'] if done else 0
        if done and done[-1]['diverged']:
            self.stopped = done[-1]['reason']
        self._asking: Asking[Step] | None = None
        self._closed = results.records[-1:] != done[-1:]
        self._begin_iteration()

    @property
    def finished(self) -> bool:
        """Whether no flight is left to fly."""
        return not self._due and not self._waiting

    def next_request(self) -> FlightRequest | None:
        """Return a flight to be flown now; None when the run waits for reports or is finished."""
        return self._due.popleft() if self._due else None

    def report(self, request: FlightRequest, flight: Flight | Any) -> Record | None:
        """Tell the run how a request was flown.

        Returns:
            The record of the iteration that this flight finished, if it did.

        Raises:
            KeyError: When this request is not waited for.
            ResultsError: When the finished iteration could not be kept.
        """
        place = self._waiting.pop(request.number)
        evaluation = Evaluation(request, flight, self.objective.cost(flight))
        self._batch[place] = evaluation
        self._failures += len(flight.failed_steps)
        self._unsafe += bool(flight.ended)
        if self._waiting:
            return None
        batch = [self._batch[place] for place in sorted(self._batch)]
        if self._asking is None:
            return self._keep_closing(batch)
        try:
            self._ask(self._asking.send(batch))
        except StopIteration as stop:
            return self._keep(stop.value)
        return None

    def repeat(self, request: FlightRequest) -> None:
        """Fly a request again that was not flown to its end (a hole in the recording, a reset)."""
        if request.number not in self._waiting:
            raise KeyError(f'flight {request.number} is not waited for')
        self._due.appendleft(request)

    def _begin_iteration(self) -> None:
        self._due: deque[FlightRequest] = deque()
        self._waiting: dict[int, int] = {}
        self._failures = self._unsafe = 0
        self._started = time.monotonic()
        if self.stopped:
            return
        if self.k < self.total and not self._out_of_flights:
            rng = np.random.default_rng([self.seed, self.k])
            self._asking = self.rule.iterate(self.k, self.policy, self._memory, rng)
            self._ask(next(self._asking))
        elif not self._closed:
            self._asking = None
            self._ask(self._closing_requests())

    @property
    def _out_of_flights(self) -> bool:
        return self.most_flights is not None and self._flights >= self.most_flights

    def _closing_requests(self) -> list[FlightRequest]:
        """Fly what the run came to: the best of a rule that tells it, else its last choice."""
        best = best_record(self.results.records) if tells_best(self.results.records) else None
        policy = self.policy if best is None else recorded(self.start, best)
        return [FlightRequest(policy, CLOSING, task=task) for task in range(self.rule.tasks)]

    def _ask(self, requests: list[FlightRequest]) -> None:
        self._batch: dict[int, Evaluation] = {}
        for place, request in enumerate(requests):
            numbered = replace(request, number=self._flights)
            self._due.append(numbered)
            self._waiting[numbered.number] = place
            self._flights += 1

    def _keep(self, step: Step) -> Record:
        """Record a finished iteration and begin the next."""
        record = {
            'kind': 'iteration',
            **self._summary(step.nominal),
            **to_record(self.start, step.next, 'next_'),
            'accepted': step.accepted,
            'reason': step.reason,
            'diverged': step.diverged,
            **step.details,
            'notes': list(step.notes),
        }
        self.results.append(record, step.memory)
        self._memory = step.memory
        self._closed = False
        self.k += 1
        self.policy = step.next
        if step.diverged:
            self.stopped = step.reason
        self._begin_iteration()
        return self.results.records[-1]

    def _keep_closing(self, batch: list[Evaluation]) -> Record:
        # Should the run be prolonged, its next iteration flies under these numbers again.
        self._flights -= len(batch)
        outcome = mean_outcome([evaluation.outcome for evaluation in batch])
        closing = Evaluation(batch[0].request, batch[0].flight, outcome)
        self.results.append({'kind': 'closing', **self._summary(closing)})
        self._closed = True
        return self.results.records[-1]

    def _summary(self, nominal: Evaluation) -> dict[str, Any]:
        return {
            'k': self.k,
            'flights': self._flights,
            'C': nominal.outcome.C,
            'V': nominal.outcome.V,
            'J': nominal.outcome.J,
            **self.objective.for_people(nominal.flight),
            'failures': self._failures,
            'unsafe_flights': self._unsafe,
            **to_record(self.start, nominal.request.parameters),
            'seconds': time.monotonic() - self._started,
            'time': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
        }
