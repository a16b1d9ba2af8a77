"""A vehicle behind MAVROS: ``ros2 launch hmpc_ros mavros.launch.py``; see docs/autopilots.md.

Nothing is commanded before ``ros2 service call /mavros_adapter/engage std_srvs/srv/Trigger``.
"""

from launch import LaunchDescription

from hmpc_ros.ros.launching import describe_adapter


def generate_launch_description() -> LaunchDescription:
    return describe_adapter('mavros_adapter')
