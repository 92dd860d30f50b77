"""The only package that imports the library ray: controller and agents as actors.

agent       The actor of a device: hosts its agent, which knows nothing of Ray
assembly    Puts a controller together with what it needs, inside its actor: one of the two places that import adapters
borrowing   Which devices of a Ray cluster of others to take now, and which to give back
controller  The actor of a workspace
driver      Makes sure of a controller's actor; a short-lived process of its own
home        The way home through Ray
pool        The DevicePool on Ray: one detached, named, restartable agent actor a device, found again by each controller
process     What the processes of both actors do: run one thread for ever, log to a file, keep Ray's settings from jobs
"""
