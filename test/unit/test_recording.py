"""Message definitions and MCAP files as rosbag2 writes them."""

import struct
import time

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('mcap')

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64

from hmpc_ros.ros.recording import Recording, RecordingError, Topic, definition, type_name


def test_a_definition_holds_the_message_and_all_that_it_is_made_of():
    text = definition(Odometry)
    own, *others = text.split(80 * '=' + '\n')
    assert own.splitlines() == [
        'std_msgs/Header header',
        'string child_frame_id',
        'geometry_msgs/PoseWithCovariance pose',
        'geometry_msgs/TwistWithCovariance twist',
    ]
    parts = {part.splitlines()[0]: part.splitlines()[1:] for part in others}
    assert parts['MSG: geometry_msgs/PoseWithCovariance'] == [
        'geometry_msgs/Pose pose',
        'float64[36] covariance',
    ]
    assert parts['MSG: builtin_interfaces/Time'] == ['int32 sec', 'uint32 nanosec']
    assert len(others) == len(set(parts))


def test_sequences_and_bytes_have_their_ros_names():
    assert 'float64[] velocity' in definition(JointState)
    assert 'string[] name' in definition(JointState)
    text = definition(DiagnosticArray)
    assert 'diagnostic_msgs/DiagnosticStatus[] status' in text
    assert 'byte level' in text
    assert type_name(Float64) == 'std_msgs/msg/Float64'


@pytest.mark.parametrize('message', [Odometry, JointState, DiagnosticArray])
def test_another_library_understands_the_definitions(message):
    typesys = pytest.importorskip('rosbags.typesys')
    known = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    types = typesys.get_types_from_msg(definition(message), type_name(message))
    for name, fields in types.items():
        assert [f[0] for f in fields[1]] == [f[0] for f in known.get_msgdef(name).fields]


def test_a_recording_opens_before_it_is_closed_and_again_after_more(tmp_path):
    from mcap.reader import make_reader

    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node('recorder', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    publisher = node.create_publisher(Float64, 'x', 1000)
    path = tmp_path / 'x.mcap'

    def kept() -> list[float]:
        """Read what is on the disk now, as after a SIGKILL: by the index at the file's end."""
        with path.open('rb') as file:
            reader = make_reader(file)
            summary = reader.get_summary()
            found = [struct.unpack('<d', m.data[-8:])[0] for _, _, m in reader.iter_messages()]
        assert summary.statistics.message_count == len(found)
        return found

    try:
        recording = Recording(node, path, [Topic('x', Float64)], pytest.fail)
        assert kept() == []
        for upto in (3, 6):
            for value in range(upto - 3, upto):
                publisher.publish(Float64(data=float(value)))
            deadline = time.monotonic() + 60
            while len(kept()) < upto and time.monotonic() < deadline:
                executor.spin_once(timeout_sec=0.1)
            assert kept() == [float(value) for value in range(upto)]
        recording.close()
        assert kept() == [float(value) for value in range(6)]
    finally:
        node.destroy_node()
        context.try_shutdown()


def test_a_file_that_cannot_be_written_is_said(tmp_path):
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node('recorder', context=context)
    try:
        with pytest.raises(RecordingError, match='cannot be written'):
            Recording(node, tmp_path / 'no' / 'x.mcap', [Topic('x', Float64)], lambda _text: None)
    finally:
        node.destroy_node()
        context.try_shutdown()
