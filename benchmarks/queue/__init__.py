"""What the queue costs around the engine, and how it keeps engines busy."""
