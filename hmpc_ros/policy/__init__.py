"""Room 2: the model predictive controller and its derivative.

Knows the plant's linear model; knows nothing of learning or ROS.
"""
