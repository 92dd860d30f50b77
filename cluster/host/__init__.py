"""This node: its processes, addresses, locks, hardware, versions.

addresses      Addresses and ports of this node, for Ray to listen on
clock          What time it is
device_choice  Which of a node's devices are used: pure functions over `devices:` of terry.yaml and what is there
disk           Does a file system answer? A small write, in a thread of its own
hardware       What a node has: its processor's cores, its GPUs
locks          Locks between processes of one node, which the kernel releases when their holder dies
processes      Processes of this node, told apart beyond their pid: a pid alone is used again sooner or later
versions       Versions of what decides how a job runs, and whether a node's are those of the cluster's head
"""
