"""This machine: its processes, addresses, locks, hardware, versions."""
