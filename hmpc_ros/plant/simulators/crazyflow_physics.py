"""crazyflow's drone as physics: its own first-principles simulation at its own pace, under JAX."""

import warnings
from typing import Any

import numpy as np

from hmpc_ros.plant.presets import RPM, crazyflow
from hmpc_ros.plant.rigid_body import NX, POSITION, QUATERNION, RATES, VELOCITY, rotation_matrix

# crazyflow writes quaternions (x, y, z, w).
_TO_CRAZYFLOW, _FROM_CRAZYFLOW = [1, 2, 3, 0], [3, 0, 1, 2]


class CrazyflowPhysics:
    """`crazyflow.Sim` of one drone under rotor speeds.

    Its floor is at z = 0, which no drone passes. It knows no wind: what wind adds to the drag goes
    in as a force.
    """

    def __init__(self, nominal: dict[str, Any], true: dict[str, Any], step: float) -> None:
        """Build the drone that the constants name, the true ones over the nominal ones.

        Raises:
            ValueError: it is none of crazyflow's, or crazyflow is not installed.
        """
        if 'crazyflow' not in nominal:
            raise ValueError(
                "simulator.backend crazyflow flies crazyflow's drones only: use the preset cf21b"
            )
        made = crazyflow()
        import jax
        import mujoco

        jax.config.update('jax_enable_x64', True)
        before = mujoco.get_mju_user_warning()
        # It warns of a model that nobody saves here, into a file in the folder that one is in.
        mujoco.set_mju_user_warning(lambda _text: None)
        with warnings.catch_warnings(action='ignore'):
            sim = made.Sim(
                drone=nominal['crazyflow'], control=made.Control.rotor_vel, freq=round(1 / step)
            )
        mujoco.set_mju_user_warning(before)

        def scale(name: str) -> float:
            return float(true[name] / nominal[name])

        known = sim.data.params
        self._drag = np.array(known.drag_matrix) * scale('k_d')
        inertia = np.array(known.J) * scale('Ixx')
        thrust = np.array(known.rpm2thrust) * scale('k_eta')
        torque = np.array(known.rpm2torque) * scale('k_m')
        begun = sim.data.replace(
            params=known.replace(
                mass=known.mass * scale('mass'),
                J=inertia,
                J_inv=np.linalg.inv(inertia),
                drag_matrix=self._drag,
            )
        )

        @jax.jit
        def advance(data: Any, rpm: Any, force: Any, battery: Any) -> Any:
            data = data.replace(
                controls=data.controls.replace(rotor_vel=rpm[None, None]),
                states=data.states.replace(force=force[None, None]),
                params=data.params.replace(
                    rpm2thrust=battery * thrust, rpm2torque=battery * torque
                ),
            )
            data = sim._step(data)
            s = data.states
            return data, jax.numpy.concatenate(
                [s.pos[0, 0], s.vel[0, 0], s.quat[0, 0], s.ang_vel[0, 0]]
            )

        self._advance, self._begun, self._data = advance, begun, begun
        self._state = np.zeros(NX)

    def reset(self, x0: np.ndarray, rotor_speed: float) -> None:
        """Begin at a state (13,), all rotors at one speed [rad/s]."""
        begun = self._begun
        self._data = begun.replace(
            states=begun.states.replace(
                pos=x0[POSITION][None, None],
                vel=x0[VELOCITY][None, None],
                quat=x0[QUATERNION][_TO_CRAZYFLOW][None, None],
                ang_vel=x0[RATES][None, None],
                rotor_vel=np.full((1, 1, 4), rotor_speed * RPM),
            )
        )
        self._state = np.array(x0, dtype=float)

    def state(self) -> np.ndarray:
        """Return the state (13,), a new array."""
        return self._state.copy()

    def advance(self, rotor_speeds: np.ndarray, wind: np.ndarray, thrust_scale: float) -> None:
        """Go one step on under commanded rotor speeds (4,) [rad/s] and wind (3,) [m/s]."""
        turn = rotation_matrix(self._state[QUATERNION])
        force = -turn @ self._drag @ turn.T @ wind
        self._data, state = self._advance(self._data, RPM * rotor_speeds, force, thrust_scale)
        self._state = np.array(state)
        self._state[QUATERNION] = self._state[QUATERNION][_FROM_CRAZYFLOW]
