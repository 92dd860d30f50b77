"""The queue as values and pure functions: jobs, events, the state machine, failures. No clock, no files, no Ray."""
