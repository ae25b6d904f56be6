"""Kernels: `ops` is the only door."""
