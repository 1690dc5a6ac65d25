"""Numba kernels: arrays in, arrays out. Nothing outside this folder imports numba."""
