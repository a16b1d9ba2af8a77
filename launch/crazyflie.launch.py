"""A Crazyflie: ``ros2 launch hmpc_ros crazyflie.launch.py``; see docs/autopilots.md.

Nothing is commanded before ``ros2 service call /crazyflie_adapter/engage std_srvs/srv/Trigger``.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument

from hmpc_ros.ros.launching import describe_adapter

VEHICLE = DeclareLaunchArgument(
    'vehicle', default_value='', description="the vehicle's name; empty: as the file says"
)


def generate_launch_description() -> LaunchDescription:
    return describe_adapter('crazyflie_adapter', VEHICLE)
