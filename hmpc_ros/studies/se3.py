"""What one would fly instead of an MPC: RotorPy's own SE3 controller, its gains to be tuned.

It is given more than the MPC has: the true mass, the true state, rotor speeds 500 times a second.
The feed-forward is the same: acceleration with drag, and the body rates that go with the jerk.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hmpc_ros.plant.reference.flatness import Drag, flat_states
from hmpc_ros.plant.rigid_body import (
    GRAVITY,
    NU,
    POSITION,
    QUATERNION,
    RATES,
    VELOCITY,
    resting_state,
    rotation_matrix,
)
from hmpc_ros.plant.simulators.flight_simulator import LONGEST_STEP
from hmpc_ros.plant.simulators.rotorpy_physics import RotorpyPhysics
from hmpc_ros.plant.winds import WindSource
from hmpc_ros.policy.flight import Answer, closed_loop
from hmpc_ros.policy.parameters import Block, Parameters, ParameterSpace
from hmpc_ros.policy.tracking.flying import TrackedFlight
from hmpc_ros.policy.tracking.observer import N_ESTIMATE

if TYPE_CHECKING:
    from hmpc_ros.learning.requests import FlightRequest
    from hmpc_ros.plant.presets import Preset
    from hmpc_ros.plant.reference.protocol import Reference, Samples
    from hmpc_ros.plant.simulators.conditions import Conditions

SPACE = ParameterSpace(
    tuple(
        Block(name, (size,), 0.1, 1e4, unit=unit)
        for name, size, unit in (
            ('kp_pos', 3, '1/s^2'), ('kd_pos', 3, '1/s'), ('kp_att', 1, '1/s^2'),
            ('kd_att', 1, '1/s'),
        )
    )
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Se3Flyer:
    """Flies requests whose theta are the gains; their number selects the wind."""

    preset: Preset
    conditions: Conditions
    reference: Reference
    steps: int
    time_step: float
    seed: int

    def start(self) -> Parameters:
        """Return RotorPy's own gains."""
        own = self._controller()
        gains = {name: np.broadcast_to(getattr(own, name), block.shape)
                 for name, block in zip(SPACE.parts, SPACE.blocks, strict=True)}  # fmt: skip
        return Parameters(SPACE, SPACE.pack(gains))

    def _controller(self) -> Any:
        from rotorpy.controllers.quadrotor_control import SE3Control

        mass = self.conditions.mass_scale * self.preset.airframe.mass
        return SE3Control({**self.preset.constants, 'mass': mass})

    def __call__(self, request: FlightRequest) -> TrackedFlight:
        """Fly a request."""
        controller = self._controller()
        for name, values in SPACE.unpack(request.theta).items():
            setattr(controller, name, values if values.size > 1 else float(values[0]))
        inner = math.ceil(self.time_step / LONGEST_STEP - 1e-9)
        h, n = self.time_step / inner, self.steps * inner
        samples = self.reference.sample(h * np.arange(n + 1))
        flat, feed = flat_states(samples, Drag(1.0, self.preset.model.drag))
        turned = rotation_matrix(flat[:, 6:10])
        wanted = feed[:, :1] * turned[:, :, 2] - np.array([0.0, 0.0, GRAVITY])

        physics = RotorpyPhysics(self.conditions.applied_to(self.preset.constants), h)
        state = resting_state(samples.position[0], float(samples.yaw[0]))
        physics.reset(state, self.preset.airframe.hover_speed)
        air = np.random.default_rng([self.seed, request.number, 1])
        wind = WindSource(self.conditions.wind, h, air)
        late = deque([np.full(4, self.preset.airframe.hover_speed)]
                     * round(self.conditions.delay / h))  # fmt: skip
        def answer(x: np.ndarray, k: int) -> Answer | str:
            if not np.isfinite(x).all() or np.abs(x[POSITION]).max() > 50:
                return 'lost'
            # It only feeds the yaw rate forward: what is to be damped is the rest.
            reference_rates = rotation_matrix(x[QUATERNION]).T @ turned[k] @ flat[k, RATES]
            reference_rates[2] = 0.0
            seen = {
                'x': x[POSITION],
                'v': x[VELOCITY],
                'q': np.roll(x[QUATERNION], -1),  # RotorPy's has its scalar last
                'w': x[RATES] - reference_rates,
            }
            command = controller.update(h * k, seen, self._flat_output(samples, wanted, k))
            speeds = command['cmd_motor_speeds']
            slowest, fastest = controller.rotor_speed_min, controller.rotor_speed_max
            return np.clip(speeds, slowest, fastest), None, False

        def advance(_x: np.ndarray, speeds: np.ndarray, k: int) -> np.ndarray:
            late.append(speeds)
            battery = max(0.0, 1 - self.conditions.battery_sag * h * k)
            with np.errstate(all='ignore'):  # bad gains end anywhere
                physics.advance(late.popleft(), wind.next(), battery)
            return physics.state()

        flown = closed_loop(state, n, answer, advance, samples, np.zeros(4))
        done = flown.steps // inner
        kept = flown.states[: done * inner + 1 : inner]
        inputs = np.column_stack((np.full(done, GRAVITY), kept[:-1, RATES])).reshape(done, NU)
        ended = '' if flown.complete else f'the SE3 controller lost the vehicle after {done} steps'
        return TrackedFlight(
            self.time_step, kept, kept, inputs,
            type(samples)(*(each[: done * inner + 1 : inner] for each in samples)),
            np.zeros((done, N_ESTIMATE)), (), (), (), np.full(done, np.nan), self.steps, ended,
        )  # fmt: skip

    @staticmethod
    def _flat_output(samples: Samples, wanted: np.ndarray, k: int) -> dict[str, object]:
        return {
            'x': samples.position[k], 'x_dot': samples.velocity[k], 'x_ddot': wanted[k],
            'yaw': samples.yaw[k], 'yaw_dot': samples.yaw_rate[k],
        }  # fmt: skip
