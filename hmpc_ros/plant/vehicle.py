"""The simulated real vehicle: the quadcopter with all that the MPC's model does not know."""

import math
from collections import deque
from dataclasses import dataclass, fields

import numpy as np

from hmpc_ros.plant.declared import parameter
from hmpc_ros.plant.quadcopter import NU, NX, Quadcopter

_VECTORS = {'wind_force': 3, 'process_noise_std': NX, 'measurement_noise_std': NX}


@dataclass(frozen=True)
class Imperfections:
    """What a real vehicle has and its model does not; everything is off by default.

    Raises:
        ValueError: a value is negative, not finite or of the wrong length.
    """

    motor_time_constant: float = parameter(
        0.0, 'first-order lag from commanded to actual rotor speed; 0: none', 's', 0.0
    )
    input_delay_steps: int = parameter(
        0, 'control steps before a command reaches the motors', '', 0, 20
    )
    wind_force: tuple[float, ...] = parameter((0.0,) * 3, 'constant wind force, world frame', 'N')
    gust_std: float = parameter(0.0, 'standard deviation of the gust force per axis', 'N', 0.0)
    gust_time_constant: float = parameter(1.0, 'correlation time of gusts', 's', 1e-3)
    process_noise_std: tuple[float, ...] = parameter(
        (0.0,) * NX, 'standard deviation of the noise added to each state at every step', low=0.0
    )
    measurement_noise_std: tuple[float, ...] = parameter(
        (0.0,) * NX, 'standard deviation of the noise on each measured state', low=0.0
    )

    def __post_init__(self) -> None:
        """Check every field."""
        for each in fields(self):
            value = getattr(self, each.name)
            length = _VECTORS.get(each.name, 1)
            values = np.atleast_1d(np.asarray(value, dtype=float))
            if values.shape != (length,):
                raise ValueError(f'{each.name} needs {length} number(s), got {values.size}')
            signed = each.name == 'wind_force'
            if not np.all(np.isfinite(values)) or (not signed and np.any(values < 0)):
                raise ValueError(f'{each.name} = {value} must be finite and not negative')
            if length > 1:
                object.__setattr__(self, each.name, tuple(float(v) for v in values))
        if self.gust_std > 0 and self.gust_time_constant == 0:
            raise ValueError('gust_time_constant must be positive when gust_std is')


class Vehicle:
    """A flying quadcopter with imperfections: state in, noise and delay included, seeded.

    The random numbers of a flight depend on ``(seed, flight number)`` alone, so that a flight can
    be repeated, and flown in any order or process, with the same result.
    """

    def __init__(
        self, quadcopter: Quadcopter, imperfections: Imperfections | None = None, seed: int = 0
    ) -> None:
        """Start flight 0 at the origin, at rest."""
        self.quadcopter = quadcopter
        self.imperfections = imperfections or Imperfections()
        self._process_noise = _unless_zero(self.imperfections.process_noise_std)
        self._measurement_noise = _unless_zero(self.imperfections.measurement_noise_std)
        self.seed = int(seed)
        self.flight = -1
        self.reset(np.zeros(NX))

    def reset(self, x0: np.ndarray, flight: int | None = None) -> None:
        """Begin a flight at a state (12,), motors at hover speed, no gust.

        The number of the flight selects its random numbers; it is the next one if None.

        Raises:
            ValueError: the state has the wrong length or is not finite.
        """
        state = np.array(x0, dtype=float)
        if state.shape != (NX,) or not np.all(np.isfinite(state)):
            raise ValueError(f'initial state must be {NX} finite numbers, got {x0}')
        self.flight = self.flight + 1 if flight is None else int(flight)
        self.state = state
        self._rng = np.random.default_rng([self.seed, self.flight])
        hover = self.quadcopter.hover_input
        self._rotor_speeds = hover.copy()
        delay = self.imperfections.input_delay_steps
        self._delayed: deque[np.ndarray] = deque([hover.copy() for _ in range(delay)])
        self._gust = np.zeros(3)
        self._measurement: np.ndarray | None = None

    def step(self, u: np.ndarray) -> None:
        """Fly one time step under the commanded rotor speeds (4,) [rad/s]."""
        real = self.imperfections
        command = np.array(u, dtype=float)
        if real.input_delay_steps:
            self._delayed.append(command)
            command = self._delayed.popleft()
        if real.motor_time_constant > 0:
            # Exact first-order lag; the speed at the end of the step acts over the step.
            remain = math.exp(-self.quadcopter.time_step / real.motor_time_constant)
            self._rotor_speeds = command + remain * (self._rotor_speeds - command)
        else:
            self._rotor_speeds = command
        force = real.wind_force
        if real.gust_std > 0:
            # Ornstein-Uhlenbeck process sampled exactly: stationary variance gust_std^2.
            keep = math.exp(-self.quadcopter.time_step / real.gust_time_constant)
            kick = real.gust_std * math.sqrt(1 - keep * keep)
            self._gust = keep * self._gust + kick * self._rng.standard_normal(3)
            force = self._gust + np.asarray(force)
        self.state = self.quadcopter.step(self.state, self._rotor_speeds, force)
        if self._process_noise is not None:
            self.state += self._process_noise * self._rng.standard_normal(NX)
        self._measurement = None

    def jacobians_along(
        self, states: np.ndarray, inputs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the step's Jacobians along a flight, with what motors and delay remember.

            z = (x, rotor speeds of the last step, commands under way from the oldest on)

        Rotor speeds are there where there is a motor lag, commands where there is a delay. Wind and
        noise are left out: they move the state, and its derivative next to nothing.

        Args:
            states: (T, 12); position and the frame's origin do not matter to the result.
            inputs: commanded rotor speeds (T, 4) [rad/s], from the beginning of the flight on.

        Returns:
            A (T, nz, nz) and B (T, nz, 4).
        """
        real, steps = self.imperfections, len(inputs)
        delay, lagged = real.input_delay_steps, real.motor_time_constant > 0
        remain = math.exp(-self.quadcopter.time_step / real.motor_time_constant) if lagged else 0.0
        hover = self.quadcopter.hover_input
        speeds = np.concatenate((np.tile(hover, (delay, 1)), inputs))[:steps]
        before = hover
        for t in range(steps if lagged else 0):
            speeds[t] = before = speeds[t] + remain * (before - speeds[t])
        by_state, by_speed = self.quadcopter.jacobians_along(states, speeds)
        if not (delay or lagged):
            return by_state, by_speed
        queue = NX + NU * lagged
        size = queue + NU * delay
        eye, speed_by_z, speed_by_u = np.eye(NU), np.zeros((NU, size)), np.zeros((NU, NU))
        if lagged:
            speed_by_z[:, NX:queue] = remain * eye
        if delay:
            speed_by_z[:, queue : queue + NU] = (1 - remain) * eye
        else:
            speed_by_u = (1 - remain) * eye
        A, B = np.zeros((steps, size, size)), np.zeros((steps, size, NU))
        A[:, :NX], B[:, :NX] = by_speed @ speed_by_z, by_speed @ speed_by_u
        A[:, :NX, :NX] += by_state
        if lagged:
            A[:, NX:queue], B[:, NX:queue] = speed_by_z, speed_by_u
        if delay:
            A[:, queue:-NU, queue + NU :] = np.eye(size - queue - NU)
            B[:, -NU:] = eye
        return A, B

    def truth(self) -> np.ndarray:
        """Return the state (12,) as it is."""
        return self.state

    def measure(self) -> np.ndarray:
        """Return the measured state (12,): the same one however often it is read in a step."""
        if self._measurement is None:
            self._measurement = self.state.copy()
            if self._measurement_noise is not None:
                self._measurement += self._measurement_noise * self._rng.standard_normal(NX)
        return self._measurement.copy()


def _unless_zero(standard_deviations: tuple[float, ...]) -> np.ndarray | None:
    return np.array(standard_deviations) if any(standard_deviations) else None
