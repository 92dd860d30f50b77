"""The queue as values and pure functions: jobs, events, the state machine, failures. No clock, no files, no Ray.

Where a crash becomes "goes on from its last checkpoint": `failures`. What "drained" means: `device_events`.

accounts        Who has used how much: device-time by user and by sweep, of which half is forgotten after each half-life
capacity        What is free, by kind and model of device and by how much
device_events   What events about devices do: seen, gone, blocked, drained
events          Events: all that can happen to the queue; Commands: all that it can ask of the world
failures        The failure table: after which end a job goes on from its checkpoint, goes elsewhere, is held, fails
keeping_events  What events do by which people keep jobs: other terms, notes and tags, put away, removed
model           What the runner knows: jobs, attempts, devices, nodes
policy          What the scheduler decides by: weights, limits, patience
profiles        What was learnt from finished jobs of a sweep
state           The queue in memory: records of all jobs and devices, and indexes
state_document  A State as one document, and back; and what always holds of one
state_machine   The state machine of the queue: `apply(state, event)` is the only thing that changes a State
transitions     What may happen when: the table of legal transitions, and the checks that hold an event against it
waiting         Jobs that wait, in the order in which they go
"""
