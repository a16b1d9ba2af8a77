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
    """A flight's start and goal."""

    goal: Any  #: where to, as the policy takes it
    start: tuple[float, ...]  #: initial state, world frame, nx numbers


@dataclass(frozen=True, eq=False)
class OfflineFlyer:
    """Flies requests by rollout."""

    policy: Policy  #: its parameters become those of the request
    #: flies the policy to a goal, from a state, with a number that selects the noise, and with its
    #: solutions or without
    rollout: Callable[[Any, np.ndarray, int, bool], Flight]
    tasks: tuple[Task, ...]  #: starts and goals
    envelope: Envelope = field(default_factory=Envelope)  #: where a flight is cut short

    def __call__(self, request: FlightRequest) -> Flight:
        """Fly one request."""
        self.policy.use(request.parameters)
        task = self.tasks[request.task]
        flight = self.rollout(
            task.goal, np.array(task.start), request.number, request.with_solutions
        )
        return self.envelope.cut(flight)
