"""Records topics to an MCAP file, which ``ros2 bag`` and Foxglove open.

rosbag2 itself is not on every machine (there is no wheel of it); the ``mcap`` library is. Messages
are written as they come from the middleware, so that recording costs no more than copying them. The
file follows the MCAP profile ``ros2``: CDR messages, schemas as ``ros2msg``, and the QoS profiles
that ``ros2 bag play`` publishes with.

The file is finished every `FINISH_PERIOD` and written on over its own end, so that it opens also
while it is written, and when the process was killed.
"""

from __future__ import annotations

import io
import re
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile

from hmpc_ros.ros.qos import LATCHED, RECORDED

# ROS's names of the types that IDL, and with it the generated Python, calls otherwise.
_PRIMITIVES = {'boolean': 'bool', 'float': 'float32', 'double': 'float64', 'octet': 'byte'}
FINISH_PERIOD = 2.0  # s, of what a killed process loses at most
# Above what comes in meanwhile, so that only a whole chunk and its index are ever written.
_CHUNK = 64 * 1024 * 1024
# The record before the summary, and what ends a file (footer and magic), in bytes.
_DATA_END, _END = 1 + 8 + 4, (1 + 8 + 8 + 8 + 4) + 8
_FOREVER = {'sec': 9223372036, 'nsec': 854775807}


class RecordingError(RuntimeError):
    """Nothing can be recorded; the message says why."""


@dataclass(frozen=True)
class Topic:
    """A topic to record."""

    name: str  #: as for ``create_subscription``
    type: type  #: the message class
    latched: bool = False  #: whether its publisher keeps the last message for those who join late

    @property
    def qos(self) -> QoSProfile:
        """What to subscribe with."""
        return LATCHED if self.latched else RECORDED


class Recording:
    """A recording that is under way; ``on_error`` hears once in a sentence that the disk refuses.

    Raises:
        RecordingError: the library is not installed, or the file cannot be made.
    """

    def __init__(
        self, node: Node, path: Path, topics: Iterable[Topic], on_error: Callable[[str], None]
    ) -> None:
        try:
            from mcap.writer import Writer
        except ImportError as error:
            raise RecordingError('recording needs the library mcap: pip install mcap') from error
        try:
            self._file = path.open('w+b')
        except OSError as error:
            raise RecordingError(f'{path} cannot be written: {error.strerror}') from error
        self._path = path
        self._node = node
        self._on_error = on_error
        self._writer: Any = Writer(self._file, chunk_size=_CHUNK, use_summary_offsets=False)
        self._writer.start(profile='ros2', library='hmpc_ros')
        self._schemas: dict[type, int] = {}
        self._subscriptions = [self._subscribe(topic) for topic in topics]
        self._finish()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(FINISH_PERIOD, self._on_timer, clock=steady)

    def _subscribe(self, topic: Topic) -> Any:
        schema = self._schemas.get(topic.type)
        if schema is None:
            schema = self._schemas[topic.type] = self._writer.register_schema(
                type_name(topic.type), 'ros2msg', definition(topic.type).encode()
            )
        channel = self._writer.register_channel(
            self._node.resolve_topic_name(topic.name),
            'cdr',
            schema,
            {'offered_qos_profiles': _qos_text(topic.qos)},
        )

        def write(data: bytes) -> None:
            now = time.time_ns()
            if self._writer is not None:
                try:
                    self._writer.add_message(channel, now, data, now)
                except OSError as error:
                    self._give_up(error)

        return self._node.create_subscription(topic.type, topic.name, write, topic.qos, raw=True)

    def _on_timer(self) -> None:
        try:
            self._finish()
        except OSError as error:
            self._give_up(error)

    def _finish(self) -> None:
        """End the file as a whole one; what comes next is written over that end."""
        self._writer.finish()
        self._file.flush()
        # The footer begins with where the summary does.
        self._file.seek(1 + 8 - _END, io.SEEK_END)
        (summary,) = struct.unpack('<Q', self._file.read(8))
        self._file.seek(summary - _DATA_END)

    def _give_up(self, error: OSError) -> None:
        self._on_error(f'recording to {self._path} ends: {error.strerror}')
        self._writer = None
        self.close()

    def close(self) -> None:
        """Finish the file."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        self._node.destroy_timer(self._timer)
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                writer.finish()
            self._file.close()
        except OSError as error:
            self._on_error(f'{self._path} is not complete: {error.strerror}')


def type_name(message: type) -> str:
    """Return a message type's full name, e.g. ``nav_msgs/msg/Odometry``."""
    package, folder, *_ = message.__module__.split('.')
    return f'{package}/{folder}/{message.__name__}'


def definition(message: type) -> str:
    """Return a message's definition in the language of .msg files, with all that it is made of.

    It is made from the generated class, which every installation has; comments, constants and
    default values, which do not travel with a message, are not in it.
    """
    known: dict[str, str] = {}
    waiting = [message]
    while waiting:
        each = waiting.pop(0)
        name = type_name(each).replace('/msg/', '/')
        if name in known:
            continue
        lines = []
        for field, idl in each.get_fields_and_field_types().items():  # type: ignore[attr-defined]
            text, base = _field_type(idl)
            lines.append(f'{text} {field}')
            if '/' in base:
                waiting.append(_message_class(base))
        known[name] = '\n'.join(lines)
    first, *others = known.items()
    rule = 80 * '='
    return '\n'.join([first[1], *(f'{rule}\nMSG: {name}\n{text}' for name, text in others), ''])


def _field_type(idl: str) -> tuple[str, str]:
    """Translate a field's type: ``sequence<double, 3>`` is ``float64[<=3]`` of base ``float64``."""
    array = ''
    sequence = re.fullmatch(r'sequence<(.+?)(?:, (\d+))?>', idl)
    fixed = re.fullmatch(r'(.+)\[(\d+)\]', idl)
    if sequence:
        idl, bound = sequence.groups()
        array = f'[<={bound}]' if bound else '[]'
    elif fixed:
        idl, array = fixed[1], f'[{fixed[2]}]'
    bounded = re.fullmatch(r'(w?string)<(\d+)>', idl)
    base = f'{bounded[1]}<={bounded[2]}' if bounded else _PRIMITIVES.get(idl, idl)
    return base + array, base


def _message_class(name: str) -> type:
    from importlib import import_module

    package, kind = name.split('/')
    return getattr(import_module(f'{package}.msg'), kind)


def _qos_text(qos: QoSProfile) -> str:
    """Write a QoS profile as rosbag2 does."""
    import yaml

    names = {
        'history': 'keep_last' if qos.history == HistoryPolicy.KEEP_LAST else 'keep_all',
        'depth': qos.depth,
        'reliability': qos.reliability.name.lower(),
        'durability': qos.durability.name.lower(),
        'deadline': dict(_FOREVER),
        'lifespan': dict(_FOREVER),
        'liveliness': 'automatic',
        'liveliness_lease_duration': dict(_FOREVER),
        'avoid_ros_namespace_conventions': False,
    }
    return yaml.safe_dump([names], sort_keys=False)
