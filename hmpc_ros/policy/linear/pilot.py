"""The linear MPC and its goal, as the safety ladder flies them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hmpc_ros.plant.kinds import ROTORS

if TYPE_CHECKING:
    from hmpc_ros.policy.linear.goal import Goal
    from hmpc_ros.policy.linear.limits import Limits
    from hmpc_ros.policy.linear.mpc import Mpc, Solution
    from hmpc_ros.policy.parameters import Parameters


class LinearPilot:
    """Implements `hmpc_ros.policy.flight_controller.Pilot`: rotor speeds (4,) [rad/s].

    Args:
        mpc: the policy; the pilot is its only user.
        goal: where to fly to.
    """

    def __init__(self, mpc: Mpc, goal: Goal) -> None:
        self._mpc = mpc
        self.goal = goal
        self.time_step = self.plan_step = mpc.model.time_step
        self._hold(mpc.limits)

    def _hold(self, limits: Limits) -> None:
        self._low, self._high = limits.rotor_min, limits.rotor_max

    def set_goal(self, goal: Goal) -> None:
        """Fly to another goal from the next state on."""
        self.goal = goal

    def use(self, parameters: Parameters) -> None:
        """Fly with other weights, and another model, from the next state on."""
        self._mpc.use(parameters)

    def set_limits(self, limits: Limits) -> None:
        """Fly within other limits from now on, fallbacks included.

        Raises:
            ValueError: hover lies outside the rotor range; nothing is changed.
        """
        self._mpc.set_limits(limits)
        self._hold(limits)

    def reset(self) -> None:
        """Begin a run."""
        self._mpc.reset()

    def solve(self, state: np.ndarray, _stamp: int) -> Solution:
        """Answer a state (12,)."""
        return self._mpc.solve(state, self.goal)

    def plan(self, solution: Solution) -> np.ndarray:
        """Return the rotor speeds (N, 4) that a solution plans."""
        return self._mpc.model.hover_input + solution.inputs

    def hover(self, _state: np.ndarray | None) -> np.ndarray:
        """Return the speeds that carry the level vehicle."""
        return self._mpc.model.hover_input

    def inside(self, command: np.ndarray) -> np.ndarray:
        """Return the speeds inside their limits."""
        low, high = self._low, self._high
        return np.array([min(max(speed, low), high) for speed in command.tolist()])

    def distrust(self, state: np.ndarray, max_tilt: float) -> str:
        """Say by how much the vehicle is tilted beyond: the model is linear in roll and pitch."""
        return ROTORS.trusted(state, max_tilt)

    def sent(self, command: np.ndarray | None) -> None:
        """Nothing is made of it: the MPC remembers no commands."""
