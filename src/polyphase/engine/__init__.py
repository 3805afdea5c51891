"""Computation on the CPU: the definition in plain NumPy, and the fast methods held against it."""
