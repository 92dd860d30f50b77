"""How a node takes part in a workspace.

facts    What a node is found to be when it is asked to join: versions, devices, clock, whether it sees the workspace
hosts    Nodes where a program can be started: this one, and those that ssh reaches
join     Takes a node into a cluster or out of it; a process of its own
member   A node's part in a workspace's Ray cluster whose head is elsewhere: join it, end all of it and nothing else
records  What is known of the nodes: `cluster/nodes/<name>.json` (what came of asking each to join) and `members.json`
remote   How a program is run on a node: here, or by the user's own ssh
"""
