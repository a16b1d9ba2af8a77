"""A vehicle behind MAVLink: ``ros2 launch hmpc_ros mavlink.launch.py``; see docs/autopilots.md.

Nothing is commanded before ``ros2 service call /mavlink_adapter/engage std_srvs/srv/Trigger``.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument

from hmpc_ros.ros.launching import describe_adapter

URL = DeclareLaunchArgument(
    'url', default_value='', description='of the autopilot; empty: as the parameter file says'
)


def generate_launch_description() -> LaunchDescription:
    return describe_adapter('mavlink_adapter', URL)
