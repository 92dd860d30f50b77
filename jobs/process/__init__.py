"""Inside a job's process: its order, its context, its checkpoints, how it ends."""
