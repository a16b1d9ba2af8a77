"""One closed-loop flight: its record, whoever flew it, and the loop for those who fly it here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hmpc_ros.policy.protocol import Policy, Solution

# Commands that differ by less than this [rad/s] are taken for the same solution: far more than two
# solves of one QP differ by, far less than any fallback does.
SAME_COMMAND = 1e-2


@dataclass(frozen=True, eq=False)
class Flight:
    """What was measured and commanded during one flight of T steps."""

    #: measured states, world frame, (T+1, nx); SI units in the vehicle's order
    states: NDArray[np.float64]
    inputs: NDArray[np.float64]  #: commands, (T, nu); SI units
    goal: Any  #: where the flight was to go; its ``deviation`` gives the errors (..., nd) of states
    #: command at which the vehicle's model hovers, (nu,), or follows its reference, (T, nu)
    hover_input: NDArray[np.float64]
    #: the MPC's `Solution` at each step, (T,); empty when they were not kept. A vehicle over ROS
    #: never sends them: ``resolve`` makes them from the measured states
    solutions: tuple[Any, ...] = ()
    #: steps that did not fly an MPC solution but a fallback command
    failed_steps: tuple[int, ...] = ()
    #: how many steps the flight should have had; None: as many as it has
    planned_steps: int | None = None
    ended: str = ''  #: why the flight ended before its planned steps, empty when it did not

    def __post_init__(self) -> None:
        steps, nu = len(self.inputs), self.hover_input.shape[-1]
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
        """States in the goal frame, (T+1, nd)."""
        return self.goal.deviation(self.states)

    @cached_property
    def input_deviations(self) -> NDArray[np.float64]:
        """Commands relative to hover, (T, nu)."""
        return self.inputs - self.hover_input


Answer = tuple['NDArray[np.float64]', 'Solution | None', bool]


def closed_loop(
    x0: NDArray[np.float64],
    steps: int,
    answer: Callable[[NDArray[np.float64], int], Answer | str],
    advance: Callable[[NDArray[np.float64], NDArray[np.float64], int], NDArray[np.float64]],
    goal: Any,
    hover_input: NDArray[np.float64],
    *,
    keep_solutions: bool = True,
    deviations: bool = False,
) -> Flight:
    """Let somebody answer each state and a plant each answer, for T steps at most.

    Args:
        x0: First state, (nx,).
        steps: T.
        answer: Takes a state and its step to an input (nu,), the solution that was found, if there
            is one to keep, and whether the input is a fallback's; or says why there is none, which
            ends the flight.
        advance: Takes a state, its answer and its step to the next state.
        goal: Of the flight.
        hover_input: Of the flight.
        keep_solutions: Whether the flight keeps its solutions.
        deviations: Whether answers are deviations from ``hover_input``.
    """
    states, inputs = np.empty((steps + 1, len(x0))), np.empty((steps, len(hover_input)))
    solutions: list[Solution] = []
    failed: list[int] = []
    flown, ended = steps, ''
    states[0] = x = x0
    for t in range(steps):
        answered = answer(x, t)
        if isinstance(answered, str):
            flown, ended = t, answered
            break
        u, solution, fallback = answered
        inputs[t] = u
        if fallback:
            failed.append(t)
        if keep_solutions and solution is not None:
            solutions.append(solution)
        states[t + 1] = x = advance(x, u, t)
    return Flight(
        states=states[: flown + 1],
        inputs=inputs[:flown] + hover_input if deviations else inputs[:flown],
        goal=goal,
        hover_input=hover_input,
        solutions=tuple(solutions),
        failed_steps=tuple(failed),
        planned_steps=steps,
        ended=ended,
    )


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
