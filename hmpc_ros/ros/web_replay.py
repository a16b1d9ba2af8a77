"""Shows a recorded flight or learning run on the live page: ``hmpc watch --web --bag FILE``."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rclpy.serialization import deserialize_message

from hmpc_ros.ros.web_page import Page
from hmpc_ros.ros.web_story import Story

PICTURE = 0.1  # s
LONGEST = 0.5  # s, that is waited between two states: a pause of the vehicle is cut short


def messages(
    path: Path, topics: Mapping[str, Sequence[Any]], namespace: str = ''
) -> Iterator[tuple[str, Any]]:
    """Yield the messages of a recording: topic, as it is named here, and message.

    Args:
        path: the MCAP file.
        topics: by name, the message class first.
        namespace: of the flight.

    Raises:
        ValueError: it is no MCAP file, or holds no odometry.
    """
    try:
        from mcap.exceptions import McapError
        from mcap.reader import make_reader
    except ImportError as error:
        raise ValueError('recordings are read by the library mcap: pip install mcap') from error
    space = f'/{namespace.strip("/")}/' if namespace.strip('/') else '/'
    wanted = {name if name.startswith('/') else space + name: name for name in topics}
    with path.open('rb') as file:
        try:
            states = 0
            for schema, channel, message in make_reader(file).iter_messages(topics=list(wanted)):
                topic = wanted[channel.topic]
                kind = topics[topic][0]
                if schema is None or schema.name.split('/')[-1] != kind.__name__:
                    continue
                states += topic == 'odom'
                yield topic, deserialize_message(message.data, kind)
        except McapError as error:
            raise ValueError(f'{path} is no whole MCAP file: {error}') from error
    if not states:
        raise ValueError(f'{path} holds no odometry on {space}odom: give its --namespace')


def replay(path: Path, story: Story, page: Page, rate: float, namespace: str = '') -> NoReturn:
    """Play a recording on the page, at ``rate`` times the pace of its stamps; then stay.

    Ends with KeyboardInterrupt only.

    Raises:
        ValueError: see `messages`.
    """
    while not page.watched:  # nobody misses the beginning
        time.sleep(PICTURE)
    due = drawn = time.monotonic()
    for topic, message in messages(path, story.topics, namespace):
        before = story.time
        story.take(topic, message)
        step = story.time - before
        if math.isfinite(step) and step > 0:
            due += min(step / rate, LONGEST)
        now = time.monotonic()
        if now - drawn > PICTURE:
            page.draw()
            drawn = now
        if due > now:
            time.sleep(due - now)
        else:
            due = max(due, now - PICTURE)
    while True:
        page.draw()
        time.sleep(1.0)

