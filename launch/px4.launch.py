"""A vehicle behind PX4 (uXRCE-DDS): ``ros2 launch hmpc_ros px4.launch.py``; see docs/autopilots.md.

Nothing is commanded before ``ros2 service call /px4_adapter/engage std_srvs/srv/Trigger``.
"""

from launch import LaunchDescription

from hmpc_ros.ros.launching import describe_adapter


def generate_launch_description() -> LaunchDescription:
    return describe_adapter('px4_adapter')
