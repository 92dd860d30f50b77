"""This node: its processes, addresses, locks, hardware, versions."""
