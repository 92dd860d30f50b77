"""Which job goes to which device now, and why another one waits. Pure."""
