"""Paths to fly as functions of time: what a tracking controller is told to follow.

A `Reference` says position, its derivatives and yaw at any time. Most are a `Paced` path: a curve
in space, and a phase that says where on the curve the vehicle is to be, from rest to rest.
"""
