"""The parameters of the tracking MPC, of its references, and of the vehicles that it flies.

All but a few are fields of the dataclasses that they become; written out are those that choose what
is built, and the stamps at which it is begun.
"""

from dataclasses import replace
from typing import Any

from hmpc_ros.configuration.schema import Parameter, declared, fixed
from hmpc_ros.plant.reference.factory import KINDS, Values
from hmpc_ros.plant.simulators.conditions import Conditions
from hmpc_ros.plant.simulators.flight_simulator import BACKENDS
from hmpc_ros.plant.winds import Wind
from hmpc_ros.policy.tracking.parameters import TrackingLimits, TrackingParameters

#: What the preset says unless it is given.
MODEL, LIMITS = ('drag', 'thrust_lag', 'rate_lags'), ('thrust_min', 'thrust_max', 'rates')
#: Flights along a reference begin at multiples of this stamp [s]: none before gets there.
BETWEEN_FLIGHTS = 1000.0
#: A stamp that no flight gets to [s]: the year 2033. The last one there is comes five years later.
NEVER = 2.0e9
_FREE: Any = {'read_only': False}  # what may change in flight
_RATES_ONLY = 'vehicle under thrust and rates: '


def _from_preset(parameter: Parameter) -> Parameter:
    """Let nothing (0 or an empty list) stand for what the preset says."""
    nothing: list | float = [] if parameter.is_list else 0.0
    word = 'empty' if parameter.is_list else '0'
    return replace(
        parameter,
        default=nothing,
        description=f"{parameter.description}; {word}: the preset's",
        lower=parameter.lower if parameter.is_list else 0.0,
        may_be_empty=parameter.is_list,
    )


def _tracking(kind: type, prefix: str, *of_the_preset: str) -> tuple[Parameter, ...]:
    return tuple(
        replace(_from_preset(p) if p.name.removeprefix(prefix) in of_the_preset else p, **_FREE)
        for p in declared(kind, prefix, 'tracking MPC: ')
    )


#: The `backend` whose vehicle takes rotor speeds.
ROTOR_SPEEDS = 'ours'

# fmt: off
SIMULATOR = (
    fixed(
        'backend', 'ours',
        'what is simulated: ours, the vehicle.* that takes rotor speeds; or a vehicle that takes '
        "thrust and rates, with our own model as physics, RotorPy's, or crazyflow's (an extra)",
        choices=(ROTOR_SPEEDS, *BACKENDS),
    ),
    fixed(
        'preset', 'crazyflie',
        _RATES_ONLY + 'which one, a file of config/vehicles; it is flown by policy.kind tracking, '
        'vehicle.* by qp',
    ),
    *declared(Conditions, '', _RATES_ONLY),
    *declared(Wind, 'wind.', _RATES_ONLY + 'wind, '),
    Parameter(
        'next_start', -1.0,
        'stamp at which the next reset begins its flight, if it is still ahead; -1: at once',
        's', lower=-1.0, upper=2.0**31 - 1.0,
    ),
)

CONTROLLER = (
    fixed(
        'policy.kind', 'qp',
        'who flies: qp, the linear MPC with rotor speeds, to a goal; tracking, the nonlinear MPC '
        'with thrust and body rates, along reference.*',
        choices=('qp', 'tracking'),
    ),
    fixed(
        'preset', '',
        "vehicle that the tracking MPC assumes, a file of config/vehicles; empty: the simulator's",
    ),
    *_tracking(TrackingParameters, 'tracking.', *MODEL),
    *_tracking(TrackingLimits, 'tracking.limits.', *LIMITS),
    fixed(
        'tracking.rmse_after', 3.0,
        'time at the beginning of a flight whose errors are not counted',
        's', lower=0.0,
    ),
    fixed('reference.kind', 'lissajous', 'what to track', choices=KINDS),
    Parameter(
        'reference.begin', -1.0,
        'stamp at which the reference begins; until then the vehicle hovers where it does; '
        '-1: the first odometry; a new value begins it anew',
        's', lower=-1.0, upper=2.0**31 - 1.0,
    ),
    *declared(Values, 'reference.', 'reference: '),
)
