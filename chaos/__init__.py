"""Chaos: an adversary that does to a running reconciler what the world does, and what must be true afterwards."""
