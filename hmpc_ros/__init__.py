"""Hybrid-gradient policy optimisation for model predictive control, on ROS 2.

Rooms, each of which knows only those before it:

* ``plant``: vehicles, references, linear models and surrogates,
* ``policy``: the MPCs and their derivatives,
* ``learning``: flights, closed-loop gradients, estimators and update rules,
* ``configuration``: every parameter, and from values to objects,
* ``ros``: nodes and messages; nothing before it imports rclpy,
* ``figures`` and ``studies``: pictures, and what the commands compute,
* ``cli``: the command line.
"""

# As in package.xml and setup.py, where catkin_prepare_release changes it: CONTRIBUTING.md.
__version__ = '0.1.0'
