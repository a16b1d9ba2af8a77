"""The live page beside a flight: it stands still, it dies, and the vehicle flies on."""

import os
import re
import signal
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('viser')

from hmpc_ros.ros.command_interface import ROTORS
from hmpc_ros.ros.graph import NodeSpec, simulation
from hmpc_ros.ros.local_flight import open_flights
from hmpc_ros.ros.runner import LocalRunner

pytestmark = pytest.mark.system

STEPS = 600
STOP_AT, KILL_AT = 100, 350
PAGE = NodeSpec('web', 'hmpc_ros.ros.web_node', 'web', parameters={'port': 0})


def test_a_page_that_stands_still_or_dies_does_not_hold_up_the_flight():
    given = {'start_paused': True, 'episode_steps': STEPS, 'real_time_factor': 0.0}
    with (
        open_flights(simulation('reference', {'simulator': given}), interface=ROTORS) as flights,
        LocalRunner([PAGE]) as page,
    ):
        assert flights.spin_until(lambda: 'http://' in ' '.join(page.output('web')), 90.0)
        pid = page.pid('web')
        threads = {
            int(task.name): task.joinpath('comm').read_text().strip()
            for task in Path(f'/proc/{pid}/task').iterdir()
        }
        # A port of Fast DDS' shared memory has a lock, by which whoever writes waits for a reader
        # that was stopped or killed with it: about once in a thousand times, so look for the port.
        ports = [name for name in threads.values() if re.match(r'dds\.shm\.\d', name)]
        assert not ports, f'the page reads from shared memory: {ports}'
        work = [t for t, name in threads.items() if t == pid or name.startswith('dds.')]
        assert len(work) > 3
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in work} == {19}
        hurt = []

        def hurt_the_page(_stage: str, step: int) -> None:
            for at, number in ((STOP_AT, signal.SIGSTOP), (KILL_AT, signal.SIGKILL)):
                if step >= at and number not in hurt:
                    os.kill(pid, number)
                    hurt.append(number)

        flown = flights.fly(STEPS, 0.1, progress=hurt_the_page)
        assert hurt == [signal.SIGSTOP, signal.SIGKILL]
        assert flown.record.states.shape[0] == STEPS + 1
