"""What the live page makes of messages."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from nav_msgs.msg import Odometry

from hmpc_ros.ros.conversions import new_path, odometry_from_state, set_path
from hmpc_ros.ros.web_page import GREY, colours
from hmpc_ros.ros.web_story import Story

STEP = 0.05  # s


def line(offset: float = 0.0, length: int = 40) -> np.ndarray:
    states = np.zeros((length, 12))
    states[:, 0], states[:, 1] = np.linspace(0.0, 2.0, length), offset
    return states


def fly(story: Story, begun: float, offset: float) -> None:
    for k, state in enumerate(line(offset)):
        message = Odometry()
        odometry_from_state(state, round(1e9 * (begun + k * STEP)), message)
        story.take('odom', message)


def test_flights_along_one_reference_have_their_errors_and_the_first_stays_as_a_ghost():
    story = Story()
    fly(story, 0.0, 0.0)  # may have begun before it was heard: no flight to count
    path = new_path('map', 40)
    set_path(line(), 1000_000_000_000, STEP, path)
    story.take('reference_path', path)
    fly(story, 1000.0, 0.3)
    assert list(story.flight.values) == pytest.approx([0.3] * 40)
    fly(story, 2000.0, 0.1)  # along the same reference, which is not told again
    fly(story, 3000.0, 0.0)
    assert story.rmse == pytest.approx([0.3, 0.1])
    np.testing.assert_allclose(story.ghost[:, 1], 0.3)


def test_what_was_flown_without_a_reference_has_no_error():
    story = Story()
    fly(story, 0.0, 0.0)
    assert not story.by_error
    path = new_path('map', 40)
    set_path(line(), 0, STEP, path)
    story.take('reference_path', path)
    assert np.isnan(story.flight.values).all()
    assert (colours(np.array(story.flight.values), 1.0) == GREY).all()
