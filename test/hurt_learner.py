"""The learner node, hurt on purpose; started instead of it by the fault tests.

HMPC_TEST_HURT=die_before_hand_over:2   is killed when iteration 2 is recorded and not handed over
HMPC_TEST_HURT=full_disk:2              may not write a byte while it keeps iteration 2
HMPC_TEST_HURT=mistake:2                has a mistake in it that shows in iteration 2
HMPC_TEST_HURT=hold:nominal:3           stops (SIGSTOP) in its first nominal flight from number 3 on
"""

import os
import resource
import signal
from pathlib import Path

from hmpc_ros.learning.results import ResultsFolder
from hmpc_ros.ros import learner_node
from hmpc_ros.ros.flyer import RosFlyer

KIND, _, NUMBER = os.environ['HMPC_TEST_HURT'].partition(':')
append = ResultsFolder.append
fly, on_state = RosFlyer.fly, RosFlyer._on_state


def die_before_hand_over(self, record, memory=None):
    append(self, record, memory)
    if record['k'] == int(NUMBER):
        os.kill(os.getpid(), signal.SIGKILL)


def full_disk(self, record, memory=None):
    if record['k'] != int(NUMBER) or Path(os.environ['HMPC_TEST_SPACE']).exists():
        return append(self, record, memory)
    # Unlike the mode of a folder, this holds for root, too.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        return append(self, record, memory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def mistake(self, record, memory=None):
    if record['k'] == int(NUMBER):
        raise RuntimeError('nobody thought of this')
    append(self, record, memory)


def hold():
    purpose, _, number = NUMBER.partition(':')
    left = [5]  # states of the flight that is meant, until it is held

    def noted_fly(self, request):
        self.held = request.purpose == purpose and request.number >= int(number)
        return fly(self, request)

    def held_on_state(self, stamp, state):
        on_state(self, stamp, state)
        recording = self._recording
        if recording is not None and recording.first is not None and self.held and left[0]:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGSTOP)

    RosFlyer.fly, RosFlyer._on_state = noted_fly, held_on_state


HURTS = {'die_before_hand_over': die_before_hand_over, 'full_disk': full_disk, 'mistake': mistake}
if KIND == 'hold':
    hold()
else:
    ResultsFolder.append = HURTS[KIND]

if __name__ == '__main__':
    raise SystemExit(learner_node.main())
