"""The record of one closed-loop flight, whoever flew it: the rollout here or a vehicle over ROS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros import disk
from hmpc_ros.plant.quadcopter import NU, NX
from hmpc_ros.policy.linear.goal import Goal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hmpc_ros.policy.protocol import Policy, Solution

# Commands that differ by less than this [rad/s] are taken for the same solution: far more than two
# solves of one QP differ by, far less than any fallback does.
SAME_COMMAND = 1e-2
_ARRAYS = {
    'states': (None, NX), 'inputs': (None, NU), 'goal': (4,), 'hover_input': (NU,),
    'failed_steps': (None,), 'planned_steps': (), 'ended': (),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Flight:
    """What was measured and commanded during one flight of T steps.

    Attributes:
        states: Measured states, world frame, (T+1, 12); SI units in the order of ``STATE_NAMES``.
        inputs: Commanded rotor speeds [rad/s], (T, 4).
        goal: Where the flight was to go.
        hover_input: Rotor speeds at which the vehicle's model hovers [rad/s], (4,).
        solutions: The MPC's solution at each step, (T,); empty when they were not kept. A vehicle
            over ROS never sends them: ``resolve`` makes them from the measured states.
        failed_steps: Steps that did not fly an MPC solution but a fallback command.
        planned_steps: How many steps the flight should have had; None: as many as it has.
        ended: Why the flight ended before its planned steps, empty when it did not.
    """

    states: NDArray[np.float64]
    inputs: NDArray[np.float64]
    goal: Goal
    hover_input: NDArray[np.float64]
    solutions: tuple[Solution, ...] = ()
    failed_steps: tuple[int, ...] = ()
    planned_steps: int | None = None
    ended: str = ''

    def __post_init__(self) -> None:
        steps = len(self.inputs)
        nu = len(self.hover_input)
        if len(self.states) != steps + 1 or self.inputs.shape != (steps, nu):
            raise ValueError(
                f'a flight of T steps has states (T+1, nx) and inputs (T, {nu}), got '
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

    def save(self, path: Path | str) -> None:
        """Write the measurements, without the solver's solutions, to a ``.npz`` file."""
        planned = self.steps if self.planned_steps is None else self.planned_steps
        arrays = {
            'states': self.states,
            'inputs': self.inputs,
            'goal': np.array([*self.goal.position, self.goal.yaw]),
            'hover_input': self.hover_input,
            'failed_steps': np.array(self.failed_steps, dtype=int),
            'planned_steps': np.array(planned),
            'ended': np.array(self.ended),
        }
        disk.write_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path | str) -> Flight:
        """Read a flight that ``save`` wrote.

        Raises:
            ValueError: When the file cannot be read or is no flight.
        """
        try:
            data = disk.read_arrays(path, _ARRAYS)
            x, y, z, yaw = (float(value) for value in data['goal'])
            return cls(
                states=data['states'],
                inputs=data['inputs'],
                goal=Goal((x, y, z), yaw),
                hover_input=data['hover_input'],
                failed_steps=tuple(int(step) for step in data['failed_steps']),
                planned_steps=int(data['planned_steps']),
                ended=str(data['ended']),
            )
        except (OSError, ValueError) as error:
            raise ValueError(f'{path} is not a flight: {disk.reason(error)}') from error


def resolve(flight: Flight, policy: Policy) -> tuple[Solution, ...]:
    """Solve the MPC again at every measured state of a flight.

    What a vehicle over ROS sends are states and commands; their derivative needs the primal-dual
    solutions behind them. The caller's copy of the MPC, under the weights flown, finds them.

    Returns:
        T solutions, failed ones among them as they come.
    """
    # State by state, as the controller did: turned to the goal's yaw all at once, they are rounded
    # otherwise.
    return tuple(policy.solve(state, flight.goal) for state in flight.states[:-1])


def resolved(flight: Flight, policy: Policy) -> Flight:
    """Return the flight with its solutions, and with the steps that were not the MPC's named.

    A vehicle over ROS does not say which commands are solutions and which come from the fallbacks
    of its controller: a command is the MPC's when the caller's copy, under the weights flown, finds
    the same one.
    """
    solutions = resolve(flight, policy)
    failed = tuple(
        t
        for t, (solution, flown) in enumerate(zip(solutions, flight.inputs, strict=True))
        if not solution.ok or np.max(np.abs(solution.input - flown)) > SAME_COMMAND
    )
    return replace(flight, solutions=solutions, failed_steps=failed)
