"""Models: one decoder driven by a description of each architecture, and the registry they are found in."""
