"""Bringing a workspace up, keeping it up, taking it down.

keeper        Keeps Ray's head and the controller alive on its node; a process of its own
keeper_nodes  The keeper's care for the other nodes: brings in who should be in the cluster and is not
liveness      Whether a workspace's controller lives, for commands that look once and end
on_head       `up` and `down` on the node of Ray's head
over_ssh      What `up` and `down` ask of the head's host; a process of its own
overview      What is known of a workspace's nodes: terry.yaml, what came of asking each, who is alive
providers     Where a workspace's nodes come from, by its terry.yaml: one of the places that put adapters together
removed       Hosts that terry.yaml no longer names: drained, then taken out
searches      The keeper's care for searches: while one is open, a process beside it asks what to try next
slurm         `up` and `down` where the head stands in a Slurm job (`head: slurm`)
slurm_head    What a Slurm job with the head in it runs
up            `up` and `down` for a whole workspace, from wherever they are called: a login host needs no Ray of its own
"""
