"""Simulated vehicles that take thrust and body rates."""
