"""Drives an update rule through its iterations, flight by flight."""

from dataclasses import replace

import numpy as np

from hmpc_ros.learning.requests import Evaluation


class RuleBench:
    """For subclasses with ``rule``, ``objective``, ``start`` and ``fly``."""

    def iterate(self, k, policy, memory, change=lambda evaluation: evaluation):
        asking = self.rule.iterate(k, policy, memory, np.random.default_rng([5, k]))
        due, requests = next(asking), []
        while True:
            flown = []
            for request in due:
                flight = self.fly(replace(request, number=100 * k + len(requests)))
                flown.append(change(Evaluation(request, flight, self.objective.cost(flight))))
                requests.append(request)
            try:
                due = asking.send(flown)
            except StopIteration as stop:
                return requests, stop.value

    def run(self, iterations, **options):
        """Return the steps, and the requests of each."""
        policy, memory, history = self.start, {}, []
        for k in range(iterations):
            requests, step = self.iterate(k, policy, memory, **options)
            history.append((requests, step))
            if step.diverged:
                break
            policy, memory = step.next, step.memory
        return history
