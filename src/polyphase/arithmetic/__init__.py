"""Sizes, phases and costs of transposed convolution, with nothing but the standard library."""
