"""The job runner: jobs, devices and nodes; nothing of neural networks."""
