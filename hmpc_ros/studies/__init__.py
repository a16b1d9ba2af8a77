"""Experiments: what the commands compute, for anybody to call."""
