"""Models: a page per family, what pages share, and the registry they are found in."""
