"""Node ``web``: a live page of a flight and of a learner, for any browser; ``hmpc watch --web``.

It reads topics, at its own pace, with the time that the flight leaves, and by no memory that it
shares with what flies: a page that stands still or dies holds up nobody. The MPC's plan, which
costs the controller time, is only listened to while the vehicle flies no faster than a clock. The
buttons of the page call services, after a confirmation.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from typing import Any

import rclpy
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.task import Future
from std_srvs.srv import Trigger

from hmpc_ros.configuration.tables import WEB
from hmpc_ros.ros.parameters import NodeParameters
from hmpc_ros.ros.spinning import run, tell_start
from hmpc_ros.ros.web_page import ADAPTER_BUTTONS, LEARNER_BUTTONS, Page, PageError
from hmpc_ros.ros.web_story import Story
from hmpc_ros.share import config_dir

PERIOD = 0.1  # s between two looks at what came
MOST = 20  # states of a look that are taken in; a paced flight at 100 Hz has 10
PICTURE = 0.2  # s between two pictures
PACED = 2.0  # simulated over wall-clock time from which on the plan is left out
NICENESS = 19  # of this process: the flight goes first
PROFILES = 'FASTDDS_DEFAULT_PROFILES_FILE'

LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
# Best effort: a publisher keeps nothing for this reader.
_STREAM = QoSProfile(depth=2000, reliability=ReliabilityPolicy.BEST_EFFORT)
_PLAN = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class Ears:
    """Subscriptions that are looked into from time to time, instead of waking anybody.

    Args:
        node: that no executor spins.
    """

    def __init__(self, node: Node, story: Story) -> None:
        self._node, self._story = node, story
        self._open: dict[str, Any] = {}

    def listen(self, topic: str) -> None:
        """Listen to a topic of the story from now on."""
        if topic not in self._open:
            message, latched, _ = self._story.topics[topic]
            qos = LATCHED if latched else _PLAN if topic == 'predicted_path' else _STREAM
            self._open[topic] = self._node.create_subscription(
                message, topic, lambda _message: None, qos
            )

    def ignore(self, topic: str) -> None:
        """Do not listen to a topic any more."""
        if topic in self._open:
            self._node.destroy_subscription(self._open.pop(topic))

    def take(self) -> None:
        """Hand all that has come to the story."""
        for topic, subscription in self._open.items():
            come: list[bytes] = []
            with subscription.handle:
                while (
                    taken := subscription.handle.take_message(subscription.msg_type, True)
                ) is not None:
                    come.append(taken[0])
            # Of a flight faster than a clock not every state is worth its decoding.
            step = max(1, math.ceil(len(come) / MOST)) if topic == 'odom' else 1
            for message in come[::-1][::step][::-1]:  # the newest among them
                self._story.take(topic, deserialize_message(message, subscription.msg_type))


class Web(Node):
    """Serves the page."""

    def __init__(self) -> None:
        """Declare the parameters, open topics and page.

        Raises:
            ValueError: viser is not installed, or the address is taken.
        """
        super().__init__('web', start_parameter_services=False)
        settings = NodeParameters(self, WEB, dict, lambda _nothing: None)
        learner, adapter = settings['learner'], settings['adapter']
        self._story = Story(learner, adapter)
        try:
            self._page = Page(
                self._story,
                settings['host'],
                settings['port'],
                (*LEARNER_BUTTONS, *ADAPTER_BUTTONS),
            )
        except PageError as error:
            raise ValueError(str(error)) from error
        self._silent = rclpy.create_node(
            f'{self.get_name()}_ears',
            context=self.context,
            namespace=self.get_namespace(),
            start_parameter_services=False,
            use_global_arguments=False,
        )
        self._ears = Ears(self._silent, self._story)
        for topic in self._story.topics:
            if topic != 'predicted_path':
                self._ears.listen(topic)
        self._triggers = {
            **{name: self.create_client(Trigger, f'{learner}/{name}') for name in LEARNER_BUTTONS},
            **{name: self.create_client(Trigger, f'{adapter}/{name}') for name in ADAPTER_BUTTONS},
        }
        self._looked = (time.monotonic(), math.nan)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(PERIOD, self._on_look, clock=steady)
        self.create_timer(PICTURE, self._on_picture, clock=steady)
        tell_start(self, f'open {self._page.gate.url} in a browser', ('odom', 'reference_path'))

    def _on_look(self) -> None:
        """Take in what came, and ask what was pressed."""
        self._ears.take()
        now, (then, before) = time.monotonic(), self._looked
        if now - then > 1.0:
            flown = self._story.time - before
            if flown < PACED * (now - then) or not math.isfinite(flown):
                self._ears.listen('predicted_path')
            else:
                self._ears.ignore('predicted_path')
                self._story.forget_plan()
            self._looked = (now, self._story.time)
            self._page.offer([n for n, c in self._triggers.items() if c.service_is_ready()])
        while not self._page.asked.empty():
            name = self._page.asked.get()
            self.get_logger().info(f'{name} was asked for on the page')
            self._page.answer(f'{name}: asked ...')
            answer = self._triggers[name].call_async(Trigger.Request())
            answer.add_done_callback(lambda future, name=name: self._on_answer(name, future))

    def _on_answer(self, name: str, future: Future) -> None:
        response = future.result()
        refused = '' if response.success else 'refused: '
        self._page.answer(f'{name}: {refused}{response.message}')

    def _on_picture(self) -> None:
        if self._page.watched:
            self._page.draw()

    def destroy_node(self) -> None:
        """Close the page, too."""
        self._page.close()
        self._silent.destroy_node()
        super().destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    # Before anything starts a thread: those that DDS and viser start are as nice then.
    os.nice(NICENESS)
    usual = str(config_dir() / 'fastdds_discovery.xml')
    if os.environ.get(PROFILES, usual) == usual:
        os.environ[PROFILES] = str(config_dir() / 'fastdds_watching.xml')
    return run(Web, args)


if __name__ == '__main__':
    raise SystemExit(main())
