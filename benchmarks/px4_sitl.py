"""The tracking MPC on PX4 itself: its simulated quadcopter, beside PX4's own position controller.

    make px4-sitl PX4_BINARY=.../build/px4_sitl_default/bin/px4 [AGENT=.../MicroXRCEAgent]

PX4 is started here, flown, and ended. A pilot over MAVLink (`px4_pilot`) arms, takes off and lands;
the controller and an adapter take over in hover, fly eights, learn from their flights, and hand
back. What is written: px4_sitl.json and px4_sitl.png. Errors are told against PX4's own estimate,
which is all that either controller knows, and against the simulator's truth.

All is flown through MAVLink and, with AGENT, through uXRCE-DDS too. Its messages, px4_msgs, are
built from the definitions in PX4's sources, beside its build folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import message_packages
import numpy as np
from geometry_msgs.msg import PoseStamped, Transform, Twist
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from px4_messages import messages_of
from px4_pilot import (
    AGENT,
    HOLD,
    OFFBOARD_LINK,
    PARAMETERS,
    Pilot,
    Px4Error,
    free_instance,
    missing,
    px4,
    wait,
)  # fmt: skip
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile
from scipy.optimize import minimize_scalar
from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint

from hmpc_ros.cli.report import write_json
from hmpc_ros.configuration import tracking_learner
from hmpc_ros.configuration.files import Configuration, load
from hmpc_ros.configuration.provenance import provenance
from hmpc_ros.configuration.tables import CONTROLLER
from hmpc_ros.disk import write
from hmpc_ros.learning.results import number
from hmpc_ros.plant.reference.factory import make
from hmpc_ros.plant.reference.hover import Hover
from hmpc_ros.plant.reference.protocol import Reference
from hmpc_ros.plant.rigid_body import POSITION
from hmpc_ros.policy.tracking.parameters import SPACE
from hmpc_ros.ros.adapter import LATCHED
from hmpc_ros.ros.autopilot_client import AutopilotClient
from hmpc_ros.ros.command_interface import RATES
from hmpc_ros.ros.conversions import nanoseconds
from hmpc_ros.ros.graph import find_config, vehicle
from hmpc_ros.ros.runner import LocalRunner
from hmpc_ros.ros.spinning import open_node
from hmpc_ros.studies.vehicle import VehicleFlyer, learn_on_vehicle

CENTRE, HEADING = (0.0, 0.0, 3.0), math.pi / 2  # ENU [m], facing north as PX4 starts
# Phase rates [rad/s] of the eight by its peak speed [m/s]: 1.5 sqrt(2) of the rate.
EIGHTS = {'eight, 1.5 m/s': 0.7071, 'eight, 3 m/s': 1.4142}
FAST = 'eight, 3 m/s'
COUNTED, END = 3.0, 12.0  # s of an eight that count
HOVERED = 10.0  # s
HOVER = 0.49  # throttle of a hover of the SIH quadcopter
# What is known of it before any flight: SIH_KDV is 1 N s/m on 1 kg; its lags are measured ones.
MODEL = {
    'tracking.drag': [1.0, 1.0, 1.0],
    'tracking.thrust_lag': 0.055,
    'tracking.rate_lags': [0.085, 0.085, 0.3],
}
_HISTORY = QoSProfile(depth=5000)
PARTS = ('hover', 'eights', 'learning', 'engagements', 'kills')


def eight(rate: float) -> Reference:
    """Return the eight of the measurements at a phase rate [rad/s], about `CENTRE`."""
    return make(
        'lissajous',
        {'rate': rate, 'centre': CENTRE, 'yaw_angle': HEADING, 'duration': END, 'ramp': COUNTED},
    )


def say(words: str) -> None:
    """Tell how it goes."""
    print(f'{time.strftime("%H:%M:%S")} {words}', flush=True)


class Vehicle:
    """Controller and adapter on PX4; see `flying_vehicle`."""

    def __init__(self, runner: LocalRunner, node: Any, executor: Any, adapter: str) -> None:
        self.runner = runner
        self._node, self._executor = node, executor
        self._client = AutopilotClient(node, executor, adapter)
        self._places: list[np.ndarray] = []
        self._path: PathMessage | None = None
        node.create_subscription(Odometry, 'odom', self._on_odometry, _HISTORY)
        node.create_subscription(PathMessage, 'reference_path', self._on_path, LATCHED)
        self._goals = node.create_publisher(PoseStamped, 'goal_pose', 1)
        self._trajectories = node.create_publisher(MultiDOFJointTrajectory, 'trajectory', 1)
        self._setter = node.create_client(
            SetParametersAtomically, 'controller/set_parameters_atomically'
        )

    # -- what it tells -------------------------------------------------------------------------

    def _on_odometry(self, message: Odometry) -> None:
        state = np.empty(RATES.states)
        RATES.read_state(message, state)
        self._places.append(state[POSITION])

    def _on_path(self, message: PathMessage) -> None:
        self._path = message

    def told(self) -> dict[str, str]:
        """Return what the adapter says about the take-over."""
        status = self._client.status(60.0)
        return {**{pair.key: pair.value for pair in status.values}, 'words': status.message}

    def spin(self, done: Callable[[], bool], seconds: float, flies: bool = False) -> bool:
        """Listen until something is done; says whether it was.

        Raises:
            NodeDiedError: controller or adapter ended.
            Px4Error: ``flies`` is set and control was given back.
        """
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            self.runner.check()
            self._executor.spin_once(timeout_sec=0.02)
            if flies and self.told()['phase'] != 'taken over':
                raise Px4Error(f'the flight ended: {self.told()["words"]}')
        return True

    # -- what it is asked ----------------------------------------------------------------------

    def goal(self, place: tuple[float, float, float]) -> None:
        """Fly to a place and hover there."""
        pose = PoseStamped()
        pose.header.frame_id = 'map'
        at, turned = pose.pose.position, pose.pose.orientation
        at.x, at.y, at.z = place
        turned.w, turned.z = math.cos(HEADING / 2), math.sin(HEADING / 2)
        self._goals.publish(pose)

    def engage(self, pilot: Pilot) -> None:
        """Take over where PX4 holds it; raises Px4Error when it does not come to that."""
        if not self.spin(lambda: bool(self._places) and self._goals.get_subscription_count() > 0
                         and self._trajectories.get_subscription_count() > 0, 120.0):  # fmt: skip
            raise Px4Error(f'the controller hears no state: {self.told()["words"]}')
        end = time.monotonic() + 60.0
        ready = False
        while not ready:  # PX4's hold wanders with its estimate: the reference goes with it
            if time.monotonic() > end:
                raise Px4Error(f'not ready to engage: {self.told()["words"]}')
            x, y, z = np.mean(self._places[-100:], axis=0).tolist()
            self.goal((x, y, z))
            ready = self.spin(lambda: self.told()['phase'] == 'ready', 4.0)
        done, words = self._client.ask('engage', 10.0)
        if not done:
            raise Px4Error(f'does not engage: {words}')
        if not self.spin(lambda: self.told()['phase'] == 'taken over', 15.0):
            raise Px4Error(f'did not take over: {self.told()["words"]}')
        self.spin(lambda: pilot.mode == 'offboard', 3.0)

    def hand_back(self, pilot: Pilot) -> None:
        """Give control back to PX4's hold; raises Px4Error when it does not take it."""
        done, words = self._client.ask('hand_back', 10.0)
        given = ('waiting', 'ready')
        if not done or not self.spin(
            lambda: pilot.mode == 'hold' and self.told()['phase'] in given, 10.0
        ):
            raise Px4Error(f'did not hand back: {words}; PX4 is in {pilot.mode}')

    def hover(self) -> tuple[Reference, float]:
        """Hover at `CENTRE`; returns it as a reference, and when it began [s]."""
        self.goal(CENTRE)
        self.spin(lambda: False, 5.0, flies=True)
        zero = time.time()
        self.spin(lambda: False, HOVERED, flies=True)
        return Hover(np.array(CENTRE), HEADING), zero

    def follow(self, reference: Reference) -> float:
        """Fly a reference to its end as a ``trajectory``; returns when its time 0 was [s]."""
        self._path = None
        times = np.arange(0.0, reference.duration + 0.05, 0.05)
        samples = reference.sample(times)
        message = MultiDOFJointTrajectory()
        message.header.frame_id = 'map'
        for k, t in enumerate(times.tolist()):
            point = MultiDOFJointTrajectoryPoint(
                transforms=[Transform()], velocities=[Twist()], accelerations=[Twist()]
            )
            point.time_from_start.sec, point.time_from_start.nanosec = divmod(round(1e9 * t), 10**9)
            places = point.transforms[0].translation, point.velocities[0].linear, (
                point.accelerations[0].linear
            )
            for place, values in zip(places, samples[:3], strict=True):
                place.x, place.y, place.z = values[k].tolist()
            turned = point.transforms[0].rotation
            turned.w, turned.z = math.cos(samples.yaw[k] / 2), math.sin(samples.yaw[k] / 2)
            message.points.append(point)
        self._trajectories.publish(message)
        if not self.spin(lambda: self._path is not None, 5.0, flies=True):
            raise Px4Error('the controller did not take the trajectory')
        zero = begin_of(reference, self._path)
        self.spin(lambda: time.time() > zero + reference.duration + 0.5, 60.0, flies=True)
        return zero

    def set_theta(self, theta: np.ndarray) -> None:
        """Set weights, model and gains of the controller."""
        values = [
            RosParameter(
                f'tracking.{block}',
                value=v.tolist() if CONTROLLER[f'tracking.{block}'].is_list else float(v[0]),
            ).to_parameter_msg()
            for block, v in SPACE.unpack(theta).items()
        ]
        self.spin(self._setter.service_is_ready, 120.0)
        future = self._setter.call_async(SetParametersAtomically.Request(parameters=values))
        if not self.spin(future.done, 15.0) or not future.result().result.successful:
            raise Px4Error(f'the controller refused parameters: {future.result()}')


def begin_of(reference: Reference, path: PathMessage) -> float:
    """Return when the time 0 of a reference is [s], of which a ``reference_path`` tells.

    Raises:
        Px4Error: the path is another one.
    """
    stamps = np.array([1e-9 * nanoseconds(pose.header.stamp) for pose in path.poses])
    places = np.array(
        [(p.pose.position.x, p.pose.position.y, p.pose.position.z) for p in path.poses]
    )
    first = stamps[0]

    def wrong(shift: float) -> float:
        at = reference.sample(stamps - first - shift).position
        return float(np.max(np.linalg.norm(at - places, axis=1)))

    guesses = np.arange(-1.0, 5.0, 0.05)
    near = float(guesses[np.argmin([wrong(guess) for guess in guesses])])
    found = minimize_scalar(wrong, bounds=(near - 0.1, near + 0.1), method='bounded',
                            options={'xatol': 1e-5})  # fmt: skip
    if found.fun > 0.3:
        raise Px4Error(f'the controller flies another path: {found.fun:.2f} m off at most')
    return float(first + found.x)


@contextlib.contextmanager
def flying_vehicle(
    adapter: str, parameters: Mapping[str, Mapping[str, Any]], log: Path
) -> Iterator[Vehicle]:
    """Start controller and adapter, and end them."""
    with (
        LocalRunner(vehicle(adapter, parameters=parameters), reader=kept_in(log)) as runner,
        runner.joined(),
        open_node('px4_sitl') as (node, executor),
    ):
        yield Vehicle(runner, node, executor, adapter)


def kept_in(log: Path) -> Callable[[str, str], None]:
    """Return what adds a node's lines to a file."""

    def keep(node: str, line: str) -> None:
        with log.open('a', encoding='utf-8') as lines:
            lines.write(f'{time.strftime("%H:%M:%S")} {node}: {line}\n')

    return keep


class Run:
    """All flights through one adapter; `results` grows with each of them.

    Args:
        pilot: in the air, in hold.
        adapter: name of the node.
        parameters: of adapter and controller.
        options: the command line's.
        bridge: the agent, where there is one.
    """

    def __init__(
        self, pilot: Pilot, adapter: str, parameters: dict[str, dict[str, Any]],
        options: argparse.Namespace, bridge: Agent | None = None,
    ) -> None:  # fmt: skip
        self.bridge = bridge
        self.pilot, self.adapter, self.options = pilot, adapter, options
        self.parameters = {
            **parameters,
            'controller': {
                'preset': 'px4_sih', 'reference.centre': list(CENTRE),
                'reference.yaw_angle': HEADING, **MODEL,
            },
        }  # fmt: skip
        self.results: dict[str, Any] = {}
        self.tracks: dict[str, np.ndarray] = {}
        self.wrong: list[str] = []
        self.log = options.out / f'{adapter}.log'

    def vehicle(self) -> contextlib.AbstractContextManager[Vehicle]:
        """Start controller and adapter."""
        return flying_vehicle(self.adapter, self.parameters, self.log)

    def keep(self, who: str, what: str, reference: Reference, zero: float,
             begin: float, end: float) -> dict[str, Any]:  # fmt: skip
        """Keep the errors of a flight; those of flights of a kind as their mean and scatter."""
        found = self.pilot.compare(reference, zero, begin, end)
        kept = self.results.setdefault(what, {}).setdefault(who, {'flights': []})
        kept['flights'].append({name: asdict(e) for name, e in found.items()})
        for name in found:
            rmse = [flight[name]['rmse'] for flight in kept['flights']]
            kept[name] = {'rmse': float(np.mean(rmse)), 'scatter': float(np.std(rmse))}
        track = np.array(self.pilot.estimate)
        self.tracks[f'{what}: {who}'] = track[
            (track[:, 0] >= zero + begin) & (track[:, 0] <= zero + end)
        ]
        say(f'{what}, {who}: ' + ', '.join(f'{n} {e.rmse:.3f} m' for n, e in found.items()))
        return self.results[what][who]

    # -- flights -------------------------------------------------------------------------------

    def own(self, parts: tuple[str, ...]) -> None:
        """Fly PX4's position controller."""
        hover = Hover(np.array(CENTRE), HEADING)
        for _ in range(self.options.repeat):
            if 'hover' in parts:
                zero = self.pilot.fly(hover, 5.0 + HOVERED)
                self.keep('PX4', 'hover', hover, zero, 5.0, 5.0 + HOVERED)
            if 'eights' in parts:
                for name, rate in EIGHTS.items():
                    reference = eight(rate)
                    zero = self.pilot.fly(reference, reference.duration)
                    self.keep('PX4', name, reference, zero, COUNTED, END)

    def ours(self, vehicle: Vehicle, parts: tuple[str, ...], who: str) -> None:
        """Take over, hover, fly the eights, hand back; again and again."""
        for k in range(self.options.repeat):
            with self.guarded(f'{who}, time {k + 1}'):
                self.ours_once(vehicle, parts, who)

    def ours_once(self, vehicle: Vehicle, parts: tuple[str, ...], who: str) -> None:
        """Take over, hover, fly the eights, hand back."""
        vehicle.engage(self.pilot)
        if 'hover' in parts:
            reference, zero = vehicle.hover()
            self.keep(who, 'hover', reference, zero, 0.0, HOVERED)
        if 'eights' in parts:
            for name, rate in EIGHTS.items():
                self.to_the_centre(vehicle)
                reference = eight(rate)
                zero = vehicle.follow(reference)
                self.keep(who, name, reference, zero, COUNTED, END)
        self.results.setdefault('adapter', {})[who] = vehicle.told()
        vehicle.hand_back(self.pilot)

    def to_the_centre(self, vehicle: Vehicle) -> None:
        """Hover where the eights begin."""
        vehicle.goal(CENTRE)
        vehicle.spin(lambda: False, 4.0, flies=True)

    def learn(self) -> np.ndarray:
        """Learn on the fast eight as ``hmpc learn --vehicle`` does; returns the best parameters."""
        configuration = self.configuration()
        self.bring_back()
        reference = tracking_learner.teacher(configuration).reference

        def told(fly: VehicleFlyer, _run: Any, record: Any) -> None:
            kept = {n: record.get(n) for n in ('k', 'kind', 'J', 'rmse_m', 'accepted',
                                               'identified', 'rehearsed_rmse_m',
                                               'rehearsals')}  # fmt: skip
            self.results.setdefault('learning', []).append({**kept, 'theta': list(record['theta'])})
            flown = f'learning flight {len(self.results["learning"])}'
            if np.isfinite(number(record['J'])):
                self.keep(flown, FAST, reference, fly.begin, COUNTED, END)

        learn_on_vehicle(
            configuration, self.adapter, self.options.out / time.strftime('learning-%Y%m%d-%H%M%S'),
            say=self.hear, reader=kept_in(self.log), on_record=told, jobs=2,
        )  # fmt: skip
        best = min(self.results['learning'], key=lambda record: number(record['J']))
        return np.array(best['theta'])

    def hear(self, words: str) -> None:
        """Do what a pilot is asked for: bring the vehicle back, and engage again."""
        say(words)
        if words.startswith('paused: '):
            threading.Thread(target=self.engage_again, daemon=True).start()
        elif words.startswith('waiting: ') and 'from the reference' in words:
            threading.Thread(target=self.bring_back, daemon=True).start()

    def bring_back(self) -> None:
        """Fly to where the eights begin, and hold there."""
        self.pilot.fly(Hover(np.array(CENTRE), HEADING), 5.0)

    def engage_again(self) -> None:
        """Fly to where the reference begins, and engage as on the page for pilots."""
        command = [sys.executable, '-m', 'hmpc_ros.cli.main', 'autopilot', 'engage',
                   '--adapter', self.adapter]  # fmt: skip
        for _ in range(5):
            self.bring_back()
            if subprocess.run(command, check=False).returncode == 0:
                return

    def configuration(self) -> Configuration:
        """Return what learns: the controller that flies, along the fast eight."""
        controller = {
            **self.parameters['controller'], 'reference.kind': 'lissajous',
            'reference.rate': EIGHTS[FAST], 'reference.duration': END, 'reference.ramp': COUNTED,
            'tracking.rmse_after': COUNTED,
        }  # fmt: skip
        nodes = {
            **self.parameters, 'controller': controller,
            'learner': {'flights': self.options.flights},
        }  # fmt: skip
        overrides = [
            f'{node}.{name}={value}' for node, values in nodes.items()
            for name, value in values.items()
        ]  # fmt: skip
        return load(find_config('autopilot'), overrides)

    def engagements(self, vehicle: Vehicle) -> None:
        """Take over and hand back, again and again."""
        done, places = 0, []
        for k in range(self.options.engagements):
            try:
                vehicle.engage(self.pilot)
                vehicle.spin(lambda: False, 1.0, flies=True)
                vehicle.hand_back(self.pilot)
                done += 1
                places.append(self.pilot.estimate[-1][1:])
            except Px4Error as error:
                self.wrong.append(f'engagement {k + 1}: {error}')
                self.pilot.choose(HOLD, 'hold')
        drift = float(np.max(np.linalg.norm(np.array(places) - places[0], axis=1))) if done else 0.0
        self.results['engagements'] = {
            'asked': self.options.engagements, 'flown': done, 'largest_distance_m': drift,
        }  # fmt: skip
        say(f'{done} of {self.options.engagements} engagements')

    def kill(self, victim: str) -> None:
        """Kill a process in flight, and see that PX4 holds and nothing engages again."""
        with self.vehicle() as vehicle:
            self.pilot.choose(HOLD, 'hold')  # PX4 stays in a failsafe until somebody does
            vehicle.engage(self.pilot)
            self.to_the_centre(vehicle)
            begun, since = time.monotonic(), len(self.pilot.modes)
            where = len(self.pilot.estimate)
            if victim == 'agent' and self.bridge is not None:
                self.bridge.kill()
            else:
                os.kill(vehicle.runner.pid(victim), signal.SIGKILL)
            held = wait(lambda: self.pilot.mode != 'offboard', 10.0)
            seconds, mode = time.monotonic() - begun, self.pilot.mode
            time.sleep(5.0)
        path = np.array(self.pilot.estimate[where:])[:, 1:]
        if victim == 'agent' and self.bridge is not None:
            self.bridge.start()
        with self.vehicle() as vehicle:  # all is well again
            vehicle.spin(lambda: vehicle.told()['phase'] != 'waiting', 30.0)
            vehicle.spin(lambda: False, 3.0)
        again = 'offboard' in [name for _, name in self.pilot.modes[since:]]
        self.results.setdefault('killed', {})[victim] = {
            'PX4 went to': mode, 'after_s': seconds, 'engaged_again': again,
            'moved_m': float(np.max(np.linalg.norm(path - path[0], axis=1))),
            'sank_m': float(path[0, 2] - path[:, 2].min()),
        }  # fmt: skip
        say(f'killed the {victim}: {self.results["killed"][victim]}')
        if not held or self.pilot.mode != 'hold' or again:
            self.wrong.append(f'after the {victim} was killed PX4 is in {self.pilot.mode}')
            self.pilot.choose(HOLD, 'hold')

    def all(self, parts: tuple[str, ...], before: Run | None) -> None:
        """Fly everything; what goes wrong is kept, and the rest is flown.

        Args:
            parts: to fly.
            before: another run with the same PX4, whose own flights count for this one, too.
        """
        if before is not None:
            for name, flights in before.results.items():
                if 'PX4' in flights:
                    self.results[name] = {'PX4': flights['PX4']}
            self.tracks |= {k: v for k, v in before.tracks.items() if k.endswith(': PX4')}
        else:
            with self.guarded("PX4's own flights"):
                self.own(parts)
        with self.guarded('flights'), self.vehicle() as vehicle:
            if {'hover', 'eights'} & set(parts):
                self.ours(vehicle, parts, 'ours')
            if 'engagements' in parts:
                self.engagements(vehicle)
        if 'learning' in parts:
            with self.guarded('learning'):
                best = self.learn()
                with self.vehicle() as vehicle:
                    vehicle.set_theta(best)
                    self.ours(vehicle, parts, 'ours, learned')
        if 'kills' in parts:
            for victim in ('controller', self.adapter, *(['agent'] if self.bridge else [])):
                with self.guarded(f'kill of the {victim}'):
                    self.kill(victim)

    @contextlib.contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Go on after what went wrong, with PX4 holding."""
        try:
            yield
        except Exception as error:  # what was flown until then is worth keeping
            self.wrong.append(f'{what}: {type(error).__name__}: {error}')
            say(self.wrong[-1])
            self.pilot.choose(HOLD, 'hold')


def ratios(results: dict[str, Any]) -> dict[str, Any]:
    """Return our errors over PX4's own, by flight and by what they were measured against."""
    found = {}
    for what in ('hover', *EIGHTS):
        flights = results.get(what, {})
        for who, errors in flights.items():
            if who != 'PX4' and 'PX4' in flights:
                found[f'{what}, {who}'] = {
                    name: errors[name]['rmse'] / max(flights['PX4'][name]['rmse'], 1e-9)
                    for name in ('estimate', 'truth')
                }
    return found


HEAD = """\
# On PX4's own simulation

`make px4-sitl PX4_BINARY=... AGENT=... ARGS='--page docs/results/px4.md'` flew this and wrote this
page: PX4 {px4}, its SIH quadcopter in real time.

RMSE of the position in m, mean (standard deviation) of the flights of a kind; of the eights
{begin:g} to {end:g} s count, of the hover {hover:g} s. *Drift* is how far PX4's estimate is from
the simulator's truth meanwhile, of which neither controller knows. Where it has nothing to do with
a controller's errors, *both* is the error against the truth: sqrt(estimate^2 + drift^2).

| through | flight | by | flights | estimate | of PX4's | truth | of PX4's | drift | both |
|---|---|---|---|---|---|---|---|---|---|
"""


def page_of(result: Mapping[str, Any]) -> str:
    """Return the results as a page."""
    begin = {'begin': COUNTED, 'end': END, 'hover': HOVERED}
    lines, rest = [], []
    for link in (link for link in ('MAVLink', 'uXRCE-DDS') if link in result):
        found = result[link]
        for what in ('hover', *EIGHTS):
            for who, kept in found.get(what, {}).items():
                if not who.startswith('learning flight'):
                    lines.append(_row(link, what, who, kept, found['ratios to PX4']))
        about = f'hmpc_ros {found["commit"]}, {found["date"]}, {found["machine"]}'
        rest += [f'Through {link} ({about}):', '']
        for record in found.get('learning', ()):
            rest.append(
                f'* learning, {record["kind"]} {record["k"]}: {_m(record["rmse_m"])} m against the '
                f'estimate, {"kept" if record["accepted"] is not False else "not kept"}'
            )
        if 'engagements' in found:
            e = found['engagements']
            rest.append(f'* {e["flown"]} of {e["asked"]} take-overs in a row')
        for victim, told in found.get('killed', {}).items():
            rest.append(
                f'* `kill -9` of the {victim} in flight: PX4 in {told["PX4 went to"]} after '
                f'{told["after_s"]:.1f} s, {told["moved_m"]:.1f} m away within 5 s; engaged again '
                f'by itself: {"yes" if told["engaged_again"] else "no"}'
            )
        rest += [*(f'* went wrong: {words}' for words in found['wrong']), '']
    head = HEAD.format(px4=result['px4'], **begin)
    return head + '\n'.join([*lines, '', *rest]).rstrip() + '\n'


def _row(link: str, what: str, who: str, kept: Mapping[str, Any], ratios: Any) -> str:
    def told(name: str) -> str:
        return f'{_m(kept[name]["rmse"])} ({_m(kept[name]["scatter"])})'

    own = ratios.get(f'{what}, {who}', {})
    cells = (
        link, what, who, len(kept['flights']), told('estimate'), _m(own.get('estimate')),
        told('truth'), _m(own.get('truth')), told('drift'),
        _m(math.hypot(kept['estimate']['rmse'], kept['drift']['rmse'])),
    )  # fmt: skip
    return '| ' + ' | '.join(map(str, cells)) + ' |'


def _m(value: float | None) -> str:
    return '' if value is None else f'{value:.2f}'


def draw(run: Run, file: Path, title: str, subtitle: str) -> None:
    """Draw the eights from above and all errors."""
    from hmpc_ros.figures.page import head, page
    from hmpc_ros.figures.style import BLUE, GREEN, MUTED, ORANGE

    colours = {'PX4': ORANGE, 'ours': BLUE, 'ours, learned': GREEN}
    with page(file) as figure:
        head(figure, title, subtitle)
        grid = figure.add_gridspec(2, 2, left=0.17, right=0.98, top=0.85, bottom=0.06)
        for column, (name, rate) in enumerate(EIGHTS.items()):
            axis = figure.add_subplot(grid[0, column])
            t = np.linspace(COUNTED, END, 500)
            wanted = eight(rate).sample(t).position
            axis.plot(*wanted[:, :2].T, color=MUTED, lw=0.9, ls=(0, (4, 3)), label='reference')
            for who, colour in colours.items():
                track = run.tracks.get(f'{name}: {who}')
                if track is not None:
                    axis.plot(*track[:, 1:3].T, color=colour, label=who)
            axis.set_aspect('equal', adjustable='datalim')
            axis.set_title(f"{name}, from above, by PX4's estimate [m]")
            axis.legend(loc='upper center', ncols=4)
            axis.margins(y=0.2)
        axis = figure.add_subplot(grid[1, :])
        rows = [(what, who) for what in ('hover', *EIGHTS) for who in run.results.get(what, {})]
        for k, (what, who) in enumerate(rows):
            both = run.results[what][who]
            values = both['estimate']['rmse'], both['truth']['rmse']
            axis.barh(k - 0.2, values[0], 0.36, color=colours.get(who, MUTED))
            axis.barh(k + 0.2, values[1], 0.36, color=colours.get(who, MUTED), alpha=0.4)
            for shift, value in zip((-0.2, 0.2), values, strict=True):
                axis.text(value, k + shift, f' {100 * value:.1f}', va='center', fontsize=7)
        axis.set_yticks(range(len(rows)), [f'{what}: {who}' for what, who in rows])
        axis.invert_yaxis()
        axis.set_title("RMSE [m]; full: against PX4's estimate, pale: against the truth")


class Agent:
    """The uXRCE-DDS agent; a context, and it ends with this process however that ends."""

    def __init__(self, program: str, port: int) -> None:
        self._command = [
            sys.executable, '-m', 'hmpc_ros.ros.tether', '--program', program, 'udp4', '-p',
            str(port),
        ]  # fmt: skip

    def __enter__(self) -> Agent:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def definitions_of(binary: Path) -> Path:
    """Return the folder of message definitions in the sources of a ``build/NAME/bin/px4``."""
    return binary.absolute().parents[min(3, len(binary.absolute().parents) - 1)] / 'msg'


def read_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; ends with a sentence when something is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--binary', default='', metavar='FILE', help="bin/px4 of PX4's build")
    parser.add_argument('--agent', default='', metavar='FILE', help='MicroXRCEAgent')
    parser.add_argument('--out', type=Path, default=Path('build/px4-sitl'), metavar='DIR')
    parser.add_argument('--flights', type=int, default=3, help='of the learning run (default: 3)')
    parser.add_argument('--repeat', type=int, default=3, help='flights of a kind (default: 3)')
    parser.add_argument('--page', type=Path, metavar='FILE', help='the results as a page, too')
    parser.add_argument(
        '--of', type=Path, nargs='+', metavar='JSON', help='fly nothing: the page of these results'
    )
    parser.add_argument('--engagements', type=int, default=20, help='in a row (default: 20)')
    parser.add_argument(
        '--links', nargs='+', choices=['MAVLink', 'uXRCE-DDS'], help='(default: all that there are)'
    )
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    options = parser.parse_args(words)
    if options.of:
        return options
    why = missing(options.binary)
    if not why and options.agent:
        if not os.access(options.agent, os.X_OK):
            why = f'AGENT: there is no program {options.agent}; it is the MicroXRCEAgent'
        elif not definitions_of(Path(options.binary)).is_dir():
            why = (
                f'AGENT: there is no {definitions_of(Path(options.binary))}: the messages of PX4 '
                'are built from its sources, beside its build folder; without AGENT all is flown '
                'through MAVLink'
            )
    if why:
        parser.exit(2, f'{why}\n')
    return options


def main() -> int:
    """Fly, and write what came of it; 1 when something went wrong."""
    options = read_arguments()
    if options.of:
        results: dict[str, Any] = {}
        for file in options.of:
            results |= json.loads(file.read_text())
        write(options.page or options.out / 'px4.md', page_of(results))
        return 0
    try:
        return fly(options)
    except (Px4Error, RuntimeError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1


def fly(options: argparse.Namespace) -> int:
    """Start PX4, fly all parts, and end it."""
    binary, parts = Path(options.binary).absolute(), tuple(options.parts)
    options.out = options.out.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    number = free_instance()
    with contextlib.ExitStack() as stack:
        # One ROS domain for PX4's agent, the nodes, and this process.
        runner = stack.enter_context(LocalRunner([]))
        names = ('ROS_', 'FASTDDS_')
        os.environ.update({n: v for n, v in runner.environment.items() if n.startswith(names)})
        port = AGENT + number
        bridge = stack.enter_context(Agent(options.agent, port)) if options.agent else None
        variables = {'PX4_UXRCE_DDS_PORT': str(port), 'PX4_UXRCE_DDS_NS': ''}
        stack.enter_context(px4(binary, number, options.out / 'px4', variables))
        if bridge is not None:
            package = messages_of(definitions_of(binary))
            folder = message_packages.build(options.out / 'messages', package)
            os.environ.update(message_packages.environment(folder))
        pilot = Pilot(number)
        stack.callback(pilot.close)
        pilot.listen_to_all()
        say(f'PX4 {pilot.version}')
        pilot.take_off()
        say('in the air')
        # PX4's estimate wanders by 0.4 m/s, and the vehicle by 0.7 m, while it holds.
        common: dict[str, Any] = {
            'system': number + 1, 'start_speed': 1.0, 'start_distance': 1.0
        }  # fmt: skip
        url = f'udp:127.0.0.1:{OFFBOARD_LINK + number}'
        adapters: dict[str, tuple[str, dict[str, Any], Agent | None]] = {}
        adapters['MAVLink'] = ('mavlink_adapter', {**common, 'url': url}, None)
        if bridge is not None:
            # PX4 does not publish its throttle by default.
            adapters['uXRCE-DDS'] = ('px4_adapter', {**common, 'hover_throttle': HOVER}, bridge)
        result: dict[str, Any] = {'px4': pilot.version, 'px4_parameters': PARAMETERS}
        wrong: list[str] = []
        run_before: Run | None = None
        for link in options.links or adapters:
            adapter, parameters, through = adapters[link]
            run = Run(pilot, adapter, {adapter: parameters}, options, through)
            run.all(parts, run_before)
            run_before = run_before or run
            result[link] = {
                **provenance(), **run.results, 'ratios to PX4': ratios(run.results),
                'wrong': run.wrong,
            }  # fmt: skip
            wrong += run.wrong
            write_json(result, options.out / 'px4_sitl.json')  # the next link may take long
            draw(
                run, options.out / f'{adapter}.png',
                f'PX4 {pilot.version.partition(" ")[0]}, simulated', 'SIH quadcopter through '
                f'{link}, {time.strftime("%Y-%m-%d")}; {COUNTED:g} to {END:g} s of the eights',
            )  # fmt: skip
        with run.guarded('landing'):
            pilot.land()
            say('landed')
        result.update({'said by PX4': pilot.texts, 'wrong': wrong, **provenance()})
        write_json(result, options.out / 'px4_sitl.json')
        write(options.page or options.out / 'px4.md', page_of(result))
    say(f'written to {options.out}: px4_sitl.json and pictures')
    return bool(wrong)


if __name__ == '__main__':
    raise SystemExit(main())
