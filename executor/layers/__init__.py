"""The pieces decoder models are put together from. All mathematics goes through `octavo.kernels.ops`."""
