"""Who runs IO Processor plugins: around the engine, off its event loop, each call within its time."""
