"""What a learner tells about itself, and how it is shown."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

from hmpc_ros.cli.live import braille, duration, view
from hmpc_ros.ros.progress import (
    DRAWN,
    Progress,
    history_from_message,
    history_message,
    policy_message,
    progress_from_message,
    status_from_progress,
)

PROGRESS = Progress(
    state='learning', message='iteration 3 of 9', learner='x', iteration=3, iterations=9,
    flight='perturbed 7', C=1090.170740326, V=0.1, J=1e-300, best=1000.0, accepted=1.0,
    predicted_change=-3.5, measured_change=-2.0,
    rolled_back=1, unsafe_flights=2, seconds=0.7, time_left=75.0, reason='it fell down',
)  # fmt: skip


def test_progress_survives_the_message_with_all_its_digits():
    message = DiagnosticArray(status=[status_from_progress(PROGRESS, 'learner: learning')])
    again = progress_from_message(message)
    assert math.isnan(again.trust)
    again.trust = again.step_size = PROGRESS.trust = PROGRESS.step_size = 0.0
    assert again == PROGRESS
    assert message.status[0].message == 'learning: iteration 3 of 9'


def test_states_have_the_level_that_a_monitor_should_show():
    def level(state):
        return status_from_progress(Progress(state=state), '').level

    assert level('stopped') == DiagnosticStatus.ERROR
    assert level('waiting') == DiagnosticStatus.WARN
    assert level('learning') == level('done') == level('paused') == DiagnosticStatus.OK


def test_a_message_of_somebody_else_is_refused():
    with pytest.raises(ValueError, match='holds no status'):
        progress_from_message(DiagnosticArray())


def test_numbers_that_are_drawn_are_numbers_of_the_progress():
    for name in DRAWN:
        assert isinstance(getattr(Progress(), name), float)


def test_history_and_policy_say_what_is_where():
    rows = [[0, 1.0, 2.0, 3.0, True], [1, 4.0, math.inf, math.inf, False]]
    np.testing.assert_array_equal(history_from_message(history_message(rows)), np.array(rows))
    policy = {'policy.q': [1.0] * 12, 'policy.r': [2.0] * 4, 'policy.p': [3.0] * 78}
    message = policy_message({**policy, 'policy.model': []})
    assert [(dim.label, dim.size) for dim in message.layout.dim] == [('q', 12), ('r', 4), ('p', 78)]
    assert list(message.data) == [1.0] * 12 + [2.0] * 4 + [3.0] * 78


def test_the_view_shows_every_number_and_a_curve():
    history = np.array([[k, 1.0, 0.1, 100.0 - k, 1.0] for k in range(9)])
    console = Console(file=io.StringIO(), width=100)
    console.print(view(PROGRESS, history))
    text = console.file.getvalue()
    for words in ('1090.17', 'iteration 3 of 9', 'rolled back 1', 'unsafe 2', '1 min 15 s'):
        assert words in text
    assert 'perturbed 7 flight' in text
    assert 'last event: it fell down' in text
    assert '⠉' in text or '⠑' in text


def test_a_curve_falls_from_the_upper_left_to_the_lower_right_and_leaves_gaps():
    lines = braille([4.0, 3.0, math.inf, 1.0, 0.0], 10, 3)
    assert lines[0][0] != '⠀'
    assert lines[-1][-1] != '⠀'
    assert all(line[5] == '⠀' for line in lines)
    assert braille([math.nan], 4, 2) == ['', '']
    assert len(braille([1.0, 1.0], 4, 2)) == 2


@pytest.mark.parametrize(
    ('seconds', 'words'),
    [(3.4, '3 s'), (75, '1 min 15 s'), (7262, '2 h 01 min'), (math.nan, '-')],
)
def test_durations_are_said_as_people_do(seconds, words):
    assert duration(seconds) == words
