"""The configuration: every parameter declared once, read by the nodes and by the commands alike.

Knows plant, policy and learning; knows nothing of ROS. The files are ordinary ROS 2 parameter
files, so that one file serves ``ros2 launch``, ``hmpc fly`` and ``hmpc train``.
"""
