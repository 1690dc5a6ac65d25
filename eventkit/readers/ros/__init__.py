"""Bags of ROS 1 and ROS 2."""
