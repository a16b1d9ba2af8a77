"""Goals as those who send them do."""

from hmpc_ros.ros.conversions import quaternion_from_euler


def pose_from_goal(goal, message):
    """Write a goal into a pose; its header stays."""
    position, orientation = message.pose.position, message.pose.orientation
    position.x, position.y, position.z = goal.position
    orientation.x, orientation.y, orientation.z, orientation.w = quaternion_from_euler(
        0.0, 0.0, goal.yaw
    )
