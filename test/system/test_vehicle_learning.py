"""A learner's flights on a vehicle behind an autopilot: battery changes, pilots, real stamps."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('pymavlink', reason='an extra: pip install pymavlink')
pytest.importorskip('acados', reason='the controller solves with acados')

from scripted_autopilot import HOLD, OFFBOARD, POSITION, FlyingAutopilot

from hmpc_ros.configuration import build_tracking, tracking_learner
from hmpc_ros.configuration.files import load
from hmpc_ros.learning.requests import NOMINAL, FlightRequest
from hmpc_ros.learning.results import read_records
from hmpc_ros.policy.parameters import Parameters
from hmpc_ros.policy.tracking.parameters import SPACE
from hmpc_ros.ros.graph import find_config
from hmpc_ros.ros.trial_lease import LEASE
from hmpc_ros.studies.learning import learn
from hmpc_ros.studies.vehicle import open_vehicle, vehicle_flyer

pytestmark = [pytest.mark.system, pytest.mark.long]

# Until the gates are open.
ENGAGE = """
import time
from hmpc_ros.ros.autopilot_client import open_client
with open_client('mavlink_adapter') as client:
    while not client.ask('engage', 30.0)[0]:
        time.sleep(0.2)
"""
SETTINGS = {
    'mavlink_adapter.solve_timeout': 5.0,
    'mavlink_adapter.max_latency': 2.0,
    'mavlink_adapter.state_timeout': 5.0,
    'controller.reference.kind': 'lissajous',
    'controller.reference.size': [0.5, 0.25],
    'controller.reference.rate': 1.2,
    'controller.reference.duration': 3.0,
    'controller.reference.ramp': 1.0,
    'controller.tracking.rmse_after': 0.5,
}


class Pilot:
    """Reads what the run says, and does what it asks for."""

    def __init__(self, peer: FlyingAutopilot):
        self.peer, self.said = peer, []

    def intervene(self) -> None:
        """Take the vehicle over in its flight: it was where that begins, and has left."""
        for away in (False, True):
            while self.peer.mode != OFFBOARD or (np.abs(self.peer.place[:2]).max() > 0.2) != away:
                time.sleep(0.05)
        self.peer.mode = POSITION
        self.peer.place[:] = 0.0, 0.0, 2.0  # and bring it back

    def __call__(self, words: str) -> None:
        self.said.append(words)
        if words.startswith('paused: '):
            assert self.peer.mode != OFFBOARD  # it was handed back before anything is changed
            self.peer.battery, self.peer.mode = 80, POSITION
            self.engaging = subprocess.Popen(
                [sys.executable, '-c', ENGAGE]
            )


def configured(**learner):
    """Return a free port for an autopilot, and the configuration of what flies it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    given = {**SETTINGS, 'mavlink_adapter.url': f'udp:127.0.0.1:{port}'}
    given |= {f'learner.{name}': value for name, value in learner.items()}
    overrides = [f'{name}={value}' for name, value in given.items()]
    return port, load(find_config('autopilot'), overrides)


@contextlib.contextmanager
def flyer():
    port, configuration = configured()
    reference, _ = build_tracking.reference(configuration)
    known = tracking_learner.teacher(configuration)
    steps = tracking_learner.steps(known)
    peer = FlyingAutopilot(port)
    pilot = Pilot(peer)
    try:
        with vehicle_flyer(
            configuration, 'mavlink_adapter', reference, steps, say=pilot
        ) as fly:
            yield fly, peer, pilot, known.start.theta
        assert peer.mode == HOLD
    finally:
        peer.stop()


def test_what_was_lent_goes_by_itself():
    with flyer() as (fly, _peer, _pilot, theta):
        assert fly(FlightRequest(Parameters(SPACE, theta), NOMINAL, number=0)).complete
        flights, own = fly.flights, build_tracking.entries(theta)
        flights.settle(fly.reference)
        lent = build_tracking.entries(0.99 * theta)
        flown = flights.fly(fly.reference, fly.steps, 0.01, lent, lease=1.0)
        assert flown.flight.complete
        assert len(flown.signatures) == 1  # renewed for as long as it flew
        # Nobody takes it back, as if this process had died.
        names = [*own, LEASE]

        def back() -> bool:
            return flights.parameters('controller', names) == {**own, LEASE: 0.0}

        assert flights.spin_until(back, 30.0)


def test_the_learner_node_learns_over_stamps_that_keep_no_grid(tmp_path):
    port, configuration = configured(reset='fly', iterations=1, max_repeats=1000)
    peer, out = FlyingAutopilot(port), tmp_path / 'run'
    try:
        with open_vehicle(configuration, 'mavlink_adapter') as flights:
            flights.wait_until_ready(120.0, print)
            flights.engage()
            told = learn(configuration, out, attach=True)
        assert told.state == 'done', told.message
        _, records = read_records(out)
        assert [record['kind'] for record in records] == ['iteration', 'closing']
        assert all(0.0 < record['rmse_m'] < 0.2 for record in records)
        assert told.unsafe_flights == 0
    finally:
        peer.stop()


def test_it_pauses_for_a_battery_change_and_goes_on_when_engaged_again():
    with flyer() as (fly, peer, pilot, theta):

        def request(number: int, scale: float = 1.0) -> FlightRequest:
            return FlightRequest(Parameters(SPACE, scale * theta), NOMINAL, number=number)

        first = fly(request(0))
        assert first.complete
        assert np.isfinite(first.measured).all()
        assert not first.failures
        assert len(peer.modes) == 1  # engaged once
        second = fly(request(1))
        assert second.complete
        assert len(peer.modes) == 1  # and flown back to the start without handing back

        peer.battery = 30  # less than the reserve, more than what ends a flight
        end = len(pilot.said)

        def told() -> float:
            fly.flights.spin_until(lambda: fly.flights.battery < 0.31, 30.0)
            return fly.flights.battery

        assert told() < 0.31
        assert fly(request(2)).complete
        assert 'battery_reserve' in pilot.said[end]
        pilot.engaging.wait(timeout=30.0)

        end = len(pilot.said)
        intervention = threading.Thread(target=pilot.intervene)
        intervention.start()
        assert fly(request(3)).complete  # flown again, after the pilot has let it be engaged
        intervention.join()
        assert 'flown again: the autopilot went to position' in pilot.said[end]
        assert pilot.said[end + 1].startswith('paused: ')
        pilot.engaging.wait(timeout=30.0)
