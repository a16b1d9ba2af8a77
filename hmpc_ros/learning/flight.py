"""The record of one closed-loop flight, whoever flew it: the rollout here or a vehicle over ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.plant.quadcopter import NU, NX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.policy.goal import Goal


@dataclass(frozen=True)
class Flight:
    """What was measured and commanded during one flight of T steps.

    Attributes:
        states: Measured states, world frame, (T+1, 12); SI units in the order of ``STATE_NAMES``.
        inputs: Commanded rotor speeds [rad/s], (T, 4).
        goal: Where the flight was to go.
        hover_input: Rotor speeds at which the vehicle's model hovers [rad/s], (4,).
        failed_steps: Steps whose MPC solve failed and that flew a fallback command instead.
        planned_steps: How many steps the flight should have had; None: as many as it has.
        ended: Why the flight ended before its planned steps, empty when it did not.
    """

    states: NDArray[np.float64]
    inputs: NDArray[np.float64]
    goal: Goal
    hover_input: NDArray[np.float64]
    failed_steps: tuple[int, ...] = ()
    planned_steps: int | None = None
    ended: str = field(default='')

    def __post_init__(self) -> None:
        steps = len(self.inputs)
        if self.states.shape != (steps + 1, NX) or self.inputs.shape != (steps, NU):
            raise ValueError(
                f'a flight of T steps has states (T+1, {NX}) and inputs (T, {NU}), got '
                f'{self.states.shape} and {self.inputs.shape}'
            )

    @property
    def steps(self) -> int:
        """T, the number of inputs flown."""
        return len(self.inputs)

    @property
    def complete(self) -> bool:
        """Whether the flight has all its planned steps."""
        return not self.ended and self.planned_steps in (None, self.steps)

    @cached_property
    def deviations(self) -> NDArray[np.float64]:
        """States in the goal frame, (T+1, 12)."""
        return self.goal.deviation(self.states)

    @cached_property
    def input_deviations(self) -> NDArray[np.float64]:
        """Rotor speeds relative to hover [rad/s], (T, 4)."""
        return self.inputs - self.hover_input
