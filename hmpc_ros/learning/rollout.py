"""Flies the requests of a training run here and now, without ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.learning.safety import Envelope

if TYPE_CHECKING:
    from collections.abc import Callable

    from hmpc_ros.learning.requests import FlightRequest
    from hmpc_ros.policy.flight import Flight
    from hmpc_ros.policy.protocol import Policy


@dataclass(frozen=True)
class Task:
    """A flight's start and goal.

    Attributes:
        goal: Where to, as the policy takes it.
        start: Initial state, world frame, nx numbers.
    """

    goal: Any
    start: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class OfflineFlyer:
    """Flies requests by rollout.

    Attributes:
        policy: Its parameters become those of the request.
        rollout: Flies the policy to a goal, from a state, with a number that selects the noise, and
            with its solutions or without.
        tasks: Starts and goals.
        envelope: Where a flight is cut short.
    """

    policy: Policy
    rollout: Callable[[Any, np.ndarray, int, bool], Flight]
    tasks: tuple[Task, ...]
    envelope: Envelope = field(default_factory=Envelope)

    def __call__(self, request: FlightRequest) -> Flight:
        """Fly one request."""
        self.policy.use(request.parameters)
        task = self.tasks[request.task]
        flight = self.rollout(
            task.goal, np.array(task.start), request.number, request.with_solutions
        )
        return self.envelope.cut(flight)
