"""The numbers that the tracking MPC is tuned by, as named blocks of one vector theta."""

# ruff: noqa: RUF009 (the calls are dataclasses' own field(), named by what they declare)

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from hmpc_ros.plant.declared import about, parameter
from hmpc_ros.plant.grey_box import GreyBox
from hmpc_ros.policy.parameters import Block, ParameterSpace


def _block(text: str, *default: float, low: float, high: float, unit: str) -> Any:
    """Declare a block: what it is, its default, the range of its entries and their unit."""
    metadata = {**about(text, unit, low, high), 'size': len(default)}
    return field(default_factory=lambda: np.array(default), metadata=metadata)


def _weight(of: str, *default: float, unit: str, high: float = 1e3) -> Any:
    """Declare square roots of cost weights; a zero would have no derivative."""
    return _block(f'weight of {of}', *default, low=1e-3, high=high, unit=unit)


@dataclass(frozen=True, eq=False)
class TrackingParameters:
    """Weights, prediction model and observer gains; theta holds the fields in this order.

    A weight w multiplies its error in the residual, so that it costs ``1/2 (w e)^2`` per stage.
    World axes for position and velocity, body axes for attitude and rates.

    Raises:
        ValueError: a block has the wrong size, or an entry is outside its range.
    """

    position: np.ndarray = _weight('position errors, world axes', 10.0, 10.0, 10.0, unit='1/m')
    velocity: np.ndarray = _weight('velocity errors, world axes', 1.5, 1.5, 1.5, unit='s/m')
    attitude: np.ndarray = _weight('attitude errors, body axes', 1.0, 1.0, 1.0, unit='1/rad')
    rates: np.ndarray = _weight('errors of the body rates', 0.1, 0.1, 0.1, unit='s/rad')
    thrust: np.ndarray = _weight('commanded thrust beside that of the reference', 0.2, unit='s^2/m')
    rate_commands: np.ndarray = _weight(
        'commanded body rates beside those of the reference', 0.7, 0.7, 0.7, unit='s/rad'
    )
    # The last stage weighs this many times as much: it stands for all that comes after.
    terminal: np.ndarray = _weight('the last stage: it counts this many times', 3.0, unit='1')
    # Of going beyond the soft limits: 1/2 (w excess)^2, excess of 1 - R33 and of the speed.
    # What is within costs nothing, and an iteration that stands there does not see what comes:
    # with 60 for the tilt commands begin to swing about the limit, with 100 they never stop.
    tilt_slack: np.ndarray = _weight(
        'tilting beyond the limit (of 1 - cos)', 50.0, unit='1', high=52.0
    )
    speed_slack: np.ndarray = _weight('flying beyond the speed limit', 10.0, unit='s/m')
    thrust_gain: np.ndarray = _block(
        'thrust had over thrust commanded', 1.0, low=0.2, high=5.0, unit='1'
    )
    drag: np.ndarray = _block(
        'linear drag, body axes', 0.0, 0.0, 0.0, low=0.0, high=5.0, unit='1/s'
    )
    thrust_lag: np.ndarray = _block(
        'first-order lag of the thrust', 0.05, low=1e-3, high=1.0, unit='s'
    )
    rate_lags: np.ndarray = _block(
        'first-order lags of the body rates', 0.05, 0.05, 0.2, low=1e-3, high=1.0, unit='s'
    )
    # How fast the observer takes what the model does not explain for thrust, and for a force.
    thrust_observer: np.ndarray = _block(
        'rate at which acceleration that the model does not explain is taken for thrust',
        3.0,
        low=0.0,
        high=20.0,
        unit='1/s',
    )
    force_observer: np.ndarray = _block(
        'rate at which it is taken for a force', 2.0, low=0.0, high=20.0, unit='1/s'
    )

    def __post_init__(self) -> None:
        """Check, and keep arrays."""
        for block in fields(self):
            values = np.array(getattr(self, block.name), dtype=float).reshape(-1)
            low, high = block.metadata['low'], block.metadata['high']
            if values.size != block.metadata['size']:
                raise ValueError(
                    f'{block.name} must be {block.metadata["size"]} numbers, got {values.size}'
                )
            if not ((values >= low) & (values <= high)).all():
                raise ValueError(
                    f'{block.name} = {values.tolist()} {block.metadata["unit"]} must lie within '
                    f'{low} .. {high}'
                )
            object.__setattr__(self, block.name, values)

    @property
    def theta(self) -> np.ndarray:
        """All blocks as one vector (N_THETA,)."""
        return SPACE.pack(vars(self))

    @classmethod
    def from_theta(cls, theta: np.ndarray) -> 'TrackingParameters':
        """Name the entries of a vector (N_THETA,).

        Raises:
            ValueError: the vector has another length, or an entry is outside its range.
        """
        return cls(**SPACE.unpack(theta))


def assumed_box(parameters: TrackingParameters) -> GreyBox:
    """Return the vehicle as parameters have it: what an identification begins with."""
    return GreyBox(
        float(parameters.thrust_gain[0]),
        tuple(parameters.drag),
        thrust_lag=float(parameters.thrust_lag[0]),
        rate_lags=tuple(parameters.rate_lags),
    )


def refitted(parameters: TrackingParameters, box: GreyBox) -> TrackingParameters:
    """Return the parameters with a prediction model that agrees with a grey box.

    Its second lags are the box' shapes and are not the policy's to know; a delay is to a slow
    motion what a lag is.
    """
    return replace(
        parameters,
        thrust_gain=np.array([box.thrust_gain]),
        drag=np.array(box.drag),
        thrust_lag=np.array([box.thrust_lag + box.delay]),
        rate_lags=np.array(box.rate_lags) + box.delay,
    )


def _declared(name: str, metadata: Mapping[str, Any]) -> Block:
    shape, text = (metadata['size'],), metadata['text']
    return Block(
        name, shape, metadata['low'], metadata['high'], unit=metadata['unit'], meaning=text
    )


SPACE = ParameterSpace(tuple(_declared(b.name, b.metadata) for b in fields(TrackingParameters)))
#: Where each block lies in theta.
BLOCKS = SPACE.parts
N_THETA = SPACE.size


@dataclass(frozen=True)
class TrackingLimits:
    """What the vehicle may be asked for; thrust and rates are hard, tilt and speed soft.

    Raises:
        ValueError: a limit is not finite, or a range is empty.
    """

    thrust_min: float = parameter(0.0, 'lowest thrust acceleration commanded', 'm/s^2', 0.0)
    thrust_max: float = parameter(20.0, 'highest thrust acceleration commanded', 'm/s^2', 0.0)
    rates: tuple[float, float, float] = parameter(
        (8.0, 8.0, 3.0), 'highest body rates commanded', 'rad/s', 1e-2
    )
    tilt: float = parameter(1.2, 'soft bound of the tilt', 'rad', 1e-2, np.pi / 2)
    speed: float = parameter(15.0, 'soft bound of the speed', 'm/s', 1e-2)
    reach: float = parameter(
        1.5,
        'distance to the reference that the MPC is shown at most; a reference further away is '
        'flown to as if it lay so far off', 'm', 1e-2, 100.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Refuse limits with which nothing flies."""
        rates = tuple(float(rate) for rate in self.rates)
        object.__setattr__(self, 'rates', rates)
        every = [self.thrust_min, self.thrust_max, *rates, self.speed, self.reach]
        if not np.isfinite(every).all():
            raise ValueError(f'the limits must be finite, got {self}')
        if not 0.0 <= self.thrust_min < self.thrust_max:
            raise ValueError(
                f'thrust needs 0 <= thrust_min < thrust_max, got {self.thrust_min} and '
                f'{self.thrust_max} m/s^2'
            )
        if len(rates) != 3 or min(rates) <= 0:
            raise ValueError(f'rates must be 3 positive numbers [rad/s], got {rates}')
        if not 0.0 < self.tilt <= np.pi / 2:
            raise ValueError(f'tilt = {self.tilt} rad must lie within 0 .. pi/2')
        if self.speed <= 0 or self.reach <= 0:
            raise ValueError(
                f'speed = {self.speed} m/s and reach = {self.reach} m must be positive'
            )

    @property
    def input_min(self) -> np.ndarray:
        """Lowest command (4,): thrust [m/s^2], rates [rad/s]."""
        return np.array([self.thrust_min, *(-rate for rate in self.rates)])

    @property
    def input_max(self) -> np.ndarray:
        """Highest command (4,)."""
        return np.array([self.thrust_max, *self.rates])
