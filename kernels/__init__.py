"""Kernels: operations in `ops`, models as lists of them in `program`, kernel sets behind both."""
