"""A cluster played through in memory, by the real state machine and the real scheduler."""
