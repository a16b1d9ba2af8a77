"""The topics of a flight, and the recording of one that is flown on this machine."""

from pathlib import Path as File

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rcl_interfaces.msg import ParameterEvent
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import MultiDOFJointTrajectory

from hmpc_ros.ros.command_interface import RATES, CommandInterface
from hmpc_ros.ros.recording import Recording, Topic

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None


def flight_topics(interface: CommandInterface) -> tuple[Topic, ...]:
    """Return what nodes publish and hear about a flight of a kind of vehicle."""
    tracking = (
        Topic('estimates', JointState),
        Topic('reference_path', Path, latched=True),
        Topic('trajectory', MultiDOFJointTrajectory),
    )
    return (
        Topic('odom', Odometry),
        Topic('ground_truth', Odometry),
        Topic('flight_start', Header),
        Topic(interface.topic, interface.message),
        Topic('goal_pose', PoseStamped),
        Topic('predicted_path', Path),
        *(tracking if interface is RATES else ()),
        Topic('/clock', Clock),
        *([] if TFMessage is None else [Topic('/tf', TFMessage)]),
        Topic('/parameter_events', ParameterEvent),  # tells which weights flew, from when to when
        Topic('/diagnostics', DiagnosticArray),
    )


class FlightRecording:
    """Records a flight's topics to an MCAP file; a `local_flight.Listener`.

    Attributes:
        problem: what the disk refused, in a sentence; empty: nothing.
    """

    def __init__(self, path: File, interface: CommandInterface) -> None:
        self._path, self._interface = path, interface
        self._recording: Recording | None = None
        self.problem = ''

    def listen(self, node: Node) -> None:
        """Begin; raises RecordingError when nothing can be recorded."""
        topics = flight_topics(self._interface)
        self._recording = Recording(node, self._path, topics, self._complain)

    def close(self) -> None:
        """Finish the file."""
        if self._recording is not None:
            self._recording.close()

    def _complain(self, problem: str) -> None:
        self.problem = problem
