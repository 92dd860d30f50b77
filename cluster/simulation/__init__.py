"""A cluster played through in memory, by the real state machine and the real scheduler.

engine  A cluster played through without a cluster
traces  What a simulation is fed with
"""
