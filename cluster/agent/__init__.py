"""A device and the processes of its jobs. No Ray."""
