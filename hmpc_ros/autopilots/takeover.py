"""Who flies: when the controller may take over from an autopilot's own mode, and gives it back.

    waiting <-> ready -> engaging -> taken over -> handing back -> waiting

It is *ready* when every gate is open, *engages* only when asked, and gives control back (to the
autopilot's own hold mode) on request and whenever a bound is broken. When the pilot or a failsafe
of the autopilot chooses another mode, it lets go at once and asks for nothing. After either, it
takes somebody's request to engage again.

Nothing here knows a protocol or a clock: an adapter describes the `Situation` and carries out the
`Orders`. The rule for an autopilot that fails over on a lost heartbeat (PX4) is `Orders.heartbeat`:
it is true only while the last step had a fresh state and a good solve, so that whatever breaks on
this side, the autopilot's own failsafe follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from hmpc_ros.plant.declared import about
from hmpc_ros.plant.odometry import Three

# A change of mode is asked for again after this time [s], and believed to be refused for good when
# it has not come this long after the last request.
REPEAT = 0.5
# What a pilot has to take off, where nobody says otherwise [s].
PATIENCE = 120.0

#: What a bound that is broken by how the controller flies is called in `TakeOver.why`; the others
#: are the pilot's, the autopilot's or the battery's doing.
BROKEN_BY_FLYING = ('geofence', 'max_speed', 'max_tilt', 'max_distance', 'solve_timeout')


class Phase(Enum):
    """Where the take-over stands."""

    WAITING = 'waiting'
    READY = 'ready'
    ENGAGING = 'engaging'
    TAKEN_OVER = 'taken over'
    HANDING_BACK = 'handing back'


class Request(Enum):
    """A mode to ask the autopilot for."""

    TAKE = 'external control'
    HOLD = 'hold'


@dataclass(frozen=True)
class Gates:
    """Inside which bounds the controller takes over, and stays in control."""

    state_timeout: float = field(
        default=0.2, metadata=about('age of a state beyond which control is given back', 's', 0.01)
    )
    solve_timeout: float = field(
        default=0.2,
        metadata=about('time without a good solve after which control is given back', 's', 0.01),
    )
    good_steps: int = field(
        default=20, metadata=about('steps with good solves in a row before a take-over', low=1)
    )
    start_distance: float = field(
        default=0.5, metadata=about('distance to the reference for a take-over', 'm', 0.0)
    )
    start_speed: float = field(
        default=0.5, metadata=about('speed up to which a take-over is allowed', 'm/s', 0.0)
    )
    max_distance: float = field(
        default=2.0,
        metadata=about('distance to the reference beyond which control is given back', 'm', 0.01),
    )
    max_speed: float = field(
        default=5.0, metadata=about('speed beyond which control is given back', 'm/s', 0.01)
    )
    max_tilt: float = field(
        default=1.0,
        metadata=about('tilt beyond which control is given back', 'rad', 0.01, math.pi),
    )
    fence_low: list[float] = field(
        default_factory=lambda: [-10.0, -10.0, 0.5],
        metadata=about('geofence, smallest x, y, z in the frame of odom', 'm'),
    )
    fence_high: list[float] = field(
        default_factory=lambda: [10.0, 10.0, 10.0],
        metadata=about('geofence, largest x, y, z in the frame of odom', 'm'),
    )
    battery_min: float = field(
        default=0.25,
        metadata=about('charge below which control is given back; 0: not watched', '', 0.0, 1.0),
    )
    flight_time: float = field(
        default=0.0,
        metadata=about('time after which control is given back; 0: no bound', 's', 0.0),
    )
    engage_timeout: float = field(
        default=5.0, metadata=about('time that the autopilot has to change its mode', 's', 0.1)
    )
    hand_back_timeout: float = field(
        default=2.0,
        metadata=about(
            'time that it has to leave external control, before nothing is sent to it any more and '
            'its own failsafe has to act',
            's',
            0.0,
        ),
    )

    def __post_init__(self) -> None:
        """Refuse a fence without an inside."""
        if not all(low < high for low, high in zip(self.fence_low, self.fence_high, strict=True)):
            raise ValueError(
                f'fence_low {self.fence_low} must be below fence_high {self.fence_high} on every '
                'axis'
            )


@dataclass
class Situation:
    """What is known at an instant.

    Attributes:
        time: monotonic [s].
        connected: whether the autopilot is heard.
        silence: why it may not be, a sentence.
        armed: whether its motors are.
        mode: its mode in its own words.
        external: whether that is the mode in which it obeys set-points from outside.
        failsafe: whether it tells a failsafe.
        estimate: what is wrong with its estimate, a sentence; empty: nothing.
        thrust: why a thrust cannot be commanded, a sentence; empty: it can.
        state_age: of the last valid state [s].
        position, velocity: ENU [m], [m/s]; None before the first state.
        tilt: angle between thrust axis and vertical [rad].
        resets: how often the estimator has moved its frame, as a counter.
        good_age: since the last step with a fresh state and a good solve [s].
        good_steps: how many of them came in a row.
        distance: to where the reference is now [m]; NaN: unknown.
        battery: charge from 0 to 1; NaN: unknown.
    """

    time: float = 0.0
    connected: bool = False
    silence: str = 'nothing is heard of the autopilot'
    armed: bool = False
    mode: str = 'unknown'
    external: bool = False
    failsafe: bool = False
    estimate: str = ''
    thrust: str = ''
    state_age: float = math.inf
    position: Three | None = None
    velocity: Three = (0.0, 0.0, 0.0)
    tilt: float = 0.0
    resets: int = 0
    good_age: float = math.inf
    good_steps: int = 0
    distance: float = math.nan
    battery: float = math.nan


@dataclass(frozen=True)
class Orders:
    """What an adapter is to do until the next orders.

    Attributes:
        setpoints: send the controller's commands on.
        heartbeat: tell the autopilot that they are good.
        request: a mode to ask for now.
    """

    setpoints: bool = False
    heartbeat: bool = False
    request: Request | None = None


class TakeOver:
    """The state machine.

    Args:
        gates: the bounds; may be replaced in flight.
        lead: time that set-points are sent before the autopilot is asked to obey them [s].
        setpoints_lead: whether they are, or only the heartbeat: what an autopilot obeys in any mode
            must not be sent before.

    Attributes:
        phase: where it stands.
        why: how it came to that, a sentence.
        refusals: why it would not engage now, sentences.
    """

    def __init__(self, gates: Gates, lead: float = 1.0, setpoints_lead: bool = True) -> None:
        self.gates = gates
        self.phase = Phase.WAITING
        self.why = 'it was started'
        self.refusals = ['nothing was heard of the autopilot yet']
        self._lead, self._setpoints_lead = lead, setpoints_lead
        self._since = 0.0  # when the phase began [s]
        self._asked = -math.inf  # when a mode was asked for last [s]
        self._took_at = 0.0
        self._mode = ''  # in which it engaged
        self._resets = 0

    # -- what people ask -----------------------------------------------------------------------

    def engage(self, situation: Situation) -> str:
        """Ask for control. Returns why that is refused, a sentence; empty: it is on its way."""
        if self.phase not in (Phase.WAITING, Phase.READY):
            return f'it is {self.phase.value} already'
        self.refusals = self._closed(situation)
        if self.refusals:
            return '; '.join(self.refusals)
        self._mode, self._resets = situation.mode, situation.resets
        self._asked = -math.inf
        self._enter(Phase.ENGAGING, situation.time, 'asked to take over')
        return ''

    def hand_back(self, situation: Situation, why: str = 'asked to hand back') -> str:
        """Give control back. Returns why there is none to give, a sentence; empty: on its way."""
        if self.phase in (Phase.WAITING, Phase.READY):
            return f'it is {self.phase.value}: there is no control to hand back'
        if self.phase is not Phase.HANDING_BACK:
            self._give_back(situation.time, why)
        return ''

    # -- what happens --------------------------------------------------------------------------

    def update(self, situation: Situation) -> Orders:
        """Take in what is known now, and return what to do."""
        s, gates = situation, self.gates
        self.refusals = self._closed(s)
        if self.phase in (Phase.ENGAGING, Phase.TAKEN_OVER):
            self._watch(s)
        if self.phase in (Phase.WAITING, Phase.READY):
            phase = Phase.WAITING if self.refusals else Phase.READY
            if phase is not self.phase:
                self.phase, self._since = phase, s.time  # `why` stays: how the last flight ended
            return Orders()
        fresh = s.good_age <= gates.solve_timeout and s.state_age <= gates.state_timeout
        for_long = s.time - self._since
        if self.phase is Phase.TAKEN_OVER:
            return Orders(fresh, fresh)
        if self.phase is Phase.ENGAGING:
            led = s.time - self._since >= self._lead
            request = self._ask(Request.TAKE, s.time) if led else None
            return Orders(fresh and (led or self._setpoints_lead), fresh, request)
        if s.external:
            fresh = fresh and for_long <= gates.hand_back_timeout
            return Orders(fresh, fresh, self._ask(Request.HOLD, s.time))
        # A request to take over may still be on its way.
        if s.time - max(self._asked, self._since) > REPEAT:
            self._enter(Phase.WAITING, s.time, self.why)
        return Orders()

    def _watch(self, s: Situation) -> None:
        """Go on to another phase where something asks for it."""
        engaging = self.phase is Phase.ENGAGING
        if not s.armed:
            self._enter(Phase.WAITING, s.time, 'the vehicle was disarmed')
        elif engaging and s.external and self._asked > -math.inf:
            self._took_at = s.time
            self._enter(Phase.TAKEN_OVER, s.time, f'the autopilot is in {s.mode}')
        elif (not engaging and not s.external) or (engaging and s.mode != self._mode):
            why = f'the autopilot went to {s.mode}: the pilot, or a failsafe of its own, flies'
            self._enter(Phase.WAITING, s.time, why)
        elif broken := self._broken(s):
            self._give_back(s.time, '; '.join(broken))
        elif engaging and s.time - self._since > self._lead + self.gates.engage_timeout:
            seconds = self.gates.engage_timeout
            self._give_back(
                s.time, f'the autopilot stayed in {s.mode} for {seconds:g} s after it was asked'
            )

    def _ask(self, request: Request, time: float) -> Request | None:
        """Ask for a mode, every now and then."""
        if time - self._asked < REPEAT:
            return None
        self._asked = time
        return request

    def _give_back(self, time: float, why: str) -> None:
        if self.phase is not Phase.ENGAGING:
            self._asked = -math.inf
        self._enter(Phase.HANDING_BACK, time, why)

    def _enter(self, phase: Phase, time: float, why: str) -> None:
        self.phase, self._since, self.why = phase, time, why

    # -- bounds --------------------------------------------------------------------------------

    def _closed(self, s: Situation) -> list[str]:
        """Say which gates are closed."""
        gates = self.gates
        if not s.connected:
            return [s.silence]
        if s.position is None:
            return [s.estimate or 'the autopilot has told no state yet']
        speed = math.hypot(*s.velocity)
        checks = [
            (not s.armed, 'the vehicle is not armed and in the air: take off in a mode of its own'),
            (
                s.external,
                (
                    f'the autopilot is in {s.mode} already: another program commands it, or one '
                    'did: choose a mode of its own first'
                ),
            ),
            (bool(s.thrust), s.thrust),
            (
                s.good_steps < gates.good_steps,
                (
                    f'{s.good_steps} steps in a row were answered by a good solve in time, '
                    f'{gates.good_steps} are needed (good_steps): is the controller active?'
                ),
            ),
            (
                math.isnan(s.distance),
                'the controller has told no reference (reference_path)',
            ),
            (
                s.distance > gates.start_distance,
                (
                    f'the vehicle is {s.distance:.2f} m from the reference, start_distance is '
                    f'{gates.start_distance:g} m: fly there, or send a reference that starts here'
                ),
            ),
            (
                speed > gates.start_speed,
                f'the vehicle flies at {speed:.2f} m/s, start_speed is {gates.start_speed:g} m/s',
            ),
        ]
        return [text for closed, text in checks if closed] + self._broken(s, in_flight=False)

    def _broken(self, s: Situation, in_flight: bool = True) -> list[str]:
        """Say which bounds of a flight are broken."""
        gates = self.gates
        speed = math.hypot(*s.velocity)
        low, high = gates.fence_low, gates.fence_high
        place = s.position or (math.nan,) * 3
        inside = all(a <= p <= b for a, p, b in zip(low, place, high, strict=True))
        where = ', '.join(f'{p:.2f}' for p in place)
        flown = s.time - self._took_at if self.phase is Phase.TAKEN_OVER else 0.0
        checks = [
            (
                s.state_age > gates.state_timeout,
                (
                    f'the last state is {s.state_age:.2f} s old, state_timeout is '
                    f'{gates.state_timeout:g} s'
                ),
            ),
            (bool(s.estimate), s.estimate),
            (
                s.failsafe,
                (
                    f'the autopilot tells a failsafe, in {s.mode}; PX4 stays in it until somebody '
                    'chooses a mode'
                ),
            ),
            (not inside, f'({where}) m is outside the geofence from {low} to {high} m'),
            (
                speed > gates.max_speed,
                f'the speed is {speed:.2f} m/s, max_speed is {gates.max_speed:g} m/s',
            ),
            (
                s.tilt > gates.max_tilt,
                f'the tilt is {s.tilt:.2f} rad, max_tilt is {gates.max_tilt:g} rad',
            ),
            (
                gates.battery_min > 0 and math.isnan(s.battery),
                (
                    'the autopilot tells no charge of its battery: set battery_min to 0 to fly '
                    'without watching it'
                ),
            ),
            (
                s.battery < gates.battery_min,
                (
                    f'the battery has {100 * s.battery:.0f} % left, battery_min is '
                    f'{100 * gates.battery_min:.0f} %'
                ),
            ),
        ]
        if in_flight:
            checks += [
                (
                    s.good_age > gates.solve_timeout,
                    (
                        f'no good solve for {s.good_age:.2f} s, solve_timeout is '
                        f'{gates.solve_timeout:g} s'
                    ),
                ),
                (
                    s.resets != self._resets,
                    'the estimator was reset: its frame has moved under the reference',
                ),
                (
                    s.distance > gates.max_distance,
                    (
                        f'the vehicle is {s.distance:.2f} m from the reference, max_distance is '
                        f'{gates.max_distance:g} m'
                    ),
                ),
                (
                    0.0 < gates.flight_time < flown,
                    f'it has flown for flight_time, {gates.flight_time:g} s',
                ),
            ]
        return [text for broken, text in checks if broken]
