"""Model predictive controllers and their derivatives, a sub-package for each kind.

Knows the plant's models; knows nothing of learning or ROS.
"""
