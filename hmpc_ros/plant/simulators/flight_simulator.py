"""A vehicle in flight: physics under the autopilot, with wind, delays and sensor noise; seeded."""

import math
from collections import deque

import numpy as np

from hmpc_ros.plant.autopilot import Autopilot
from hmpc_ros.plant.presets import Preset, airframe_of
from hmpc_ros.plant.rigid_body import GRAVITY, NU, RATES, checked_state, resting_state, retract
from hmpc_ros.plant.simulators.conditions import Conditions
from hmpc_ros.plant.simulators.crazyflow_physics import CrazyflowPhysics
from hmpc_ros.plant.simulators.model_physics import ModelPhysics
from hmpc_ros.plant.simulators.protocol import Physics
from hmpc_ros.plant.simulators.rotorpy_physics import RotorpyPhysics
from hmpc_ros.plant.winds import WindSource

BACKENDS = ('model', 'rotorpy', 'crazyflow')
LONGEST_STEP = 0.002  # s, of rate loop and physics


class FlightSimulator:
    """Implements `Simulator` with any of the physics of this room.

    The random numbers of a flight depend on ``(seed, flight number)`` alone; those of the wind do
    not depend on whether sensors are noisy.
    """

    def __init__(
        self,
        preset: Preset,
        backend: str = 'rotorpy',
        time_step: float = 0.01,
        conditions: Conditions | None = None,
        seed: int = 0,
    ) -> None:
        """Start flight 0 at the origin, at rest; the seed is that of wind and noise.

        The preset is the vehicle as its controller and its autopilot know it; conditions are in
        what the truth differs; ``time_step`` is the control period [s].

        Raises:
            ValueError: the back end is unknown or not installed, or the time step is not positive.
        """
        if not (math.isfinite(time_step) and time_step > 0):
            raise ValueError(f'time_step = {time_step} s must be positive and finite')
        self._arguments = (preset, backend, time_step, conditions, seed)
        self.preset = preset
        self.parameters = preset.airframe
        self.limits = preset.limits
        self.model = preset.model
        self.time_step = float(time_step)
        self.conditions = conditions or Conditions()
        self.seed = int(seed)
        self._substeps = math.ceil(time_step / LONGEST_STEP - 1e-9)
        self._inner = time_step / self._substeps
        self._autopilot = Autopilot(preset.airframe, self._inner)
        self._physics = _physics(backend, preset, self.conditions, self._inner)
        c = self.conditions
        stds = (c.position_noise_std, c.velocity_noise_std, c.attitude_noise_std)
        self._noise = np.repeat([*stds, c.rates_noise_std], 3)
        self.flight = -1
        self.reset(resting_state())

    def __reduce__(self) -> tuple:
        """Pickle by construction arguments (CasADi buffers cannot be sent to a process)."""
        return (FlightSimulator, self._arguments)

    def reset(self, x0: np.ndarray, flight: int | None = None) -> None:
        """Begin a flight at a state (13,), motors at the nominal hover speed.

        The number of the flight selects its random numbers; it is the next one if None.

        Raises:
            ValueError: the state is none.
        """
        state = checked_state(x0)
        self.flight = self.flight + 1 if flight is None else int(flight)
        self._physics.reset(state, self.parameters.hover_speed)
        self._autopilot.reset(state[RATES])
        self._sensors = np.random.default_rng([self.seed, self.flight, 0])
        air = np.random.default_rng([self.seed, self.flight, 1])
        self._wind = WindSource(self.conditions.wind, self._inner, air)
        self._time = 0.0
        hover = np.array([GRAVITY, 0.0, 0.0, 0.0])
        self._commands = deque([hover] * round(self.conditions.delay / self._inner))
        age = round(self.conditions.measurement_delay / self._inner)
        self._past = deque([state] * (age + 1), maxlen=age + 1)
        self._measurement: np.ndarray | None = None

    def step(self, u: np.ndarray) -> None:
        """Fly one control period under a command (4,).

        Raises:
            ValueError: the command has the wrong length or is not finite.
        """
        command = np.array(u, dtype=float)
        if command.shape != (NU,) or not np.all(np.isfinite(command)):
            raise ValueError(f'the command must be {NU} finite numbers, got {u}')
        battery = max(0.0, 1 - self.conditions.battery_sag * self._time)
        rates = self._past[-1][RATES]
        for _ in range(self._substeps):
            self._commands.append(command)
            speeds = self._autopilot.rotor_speeds(self._commands.popleft(), rates)
            self._physics.advance(speeds, self._wind.next(), battery)
            state = self._physics.state()
            self._past.append(state)
            rates = state[RATES]
        self._time += self.time_step
        self._measurement = None

    def truth(self) -> np.ndarray:
        """Return the state (13,) as it is."""
        return self._past[-1].copy()

    def measure(self) -> np.ndarray:
        """Return the state (13,) as sensors give it: the same however often asked in a step."""
        if self._measurement is None:
            self._measurement = self._past[0].copy()
            if self._noise.any():
                error = self._noise * self._sensors.standard_normal(self._noise.size)
                self._measurement = retract(self._measurement, error)
        return self._measurement.copy()


def _physics(backend: str, preset: Preset, conditions: Conditions, step: float) -> Physics:
    true = conditions.applied_to(preset.constants)
    if backend == 'rotorpy':
        return RotorpyPhysics(true, step)
    if backend == 'crazyflow':
        return CrazyflowPhysics(preset.constants, true, step)
    if backend == 'model':
        airframe = airframe_of(true)
        # The body's mass changes the drag's acceleration, not its force.
        drag = np.array(preset.model.drag) * conditions.drag_scale / conditions.mass_scale
        return ModelPhysics(airframe, tuple(drag), step)
    raise ValueError(f"simulator '{backend}' is unknown: use one of {', '.join(BACKENDS)}")
