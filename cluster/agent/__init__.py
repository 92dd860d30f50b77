"""A device and the processes of its jobs. No Ray.

From an order to its end: `agent` accepts it, `forkserver` forks the process, `attempt` watches it, and writes exit.json
with what `evidence` makes of its end.

agent              The agent of one device: starts its jobs' processes, watches them, tells how they ended
attempt            One attempt as its agent sees it: folder, process, progress, limits, and how it ended
evidence           Why an attempt ended: judged from exit status, stacks, the error it left, and counters
forkserver         Has imported what jobs need, and forks a process for each job
forkserver_client  The agent's side of the forkserver: start it, order processes, hear of their ends
forkserver_link    An agent's link to its forkserver: kept alive, with the jobs whose processes it has forked
gate               Whether jobs may have the device now, what its GPU says while they run, and how busy it is
gpu                What an agent wants to know of its GPU: who else computes on it, its errors, how full it is
gpu_lock           One lock a GPU and node, between the agents of all its users
job_runtime        What a job's process is made of, as strings: the runner itself imports nothing of jobs or models
marks              Processes of an agent carry its mark: a successor finds them by it, and makes sure that they are gone
meter              How busy a device is: measured by its agent every few seconds, for the eyes of people
mps                NVIDIA's Multi-Process Service: several processes compute on one GPU at the same moment
occupancy          Whether a GPU may be used now: nobody else computes on it or holds its lock
pulse              What a job does just now, in memory that it shares with its agent
reports            The outbox of an agent: what the controller is told, until it has acknowledged it
"""
