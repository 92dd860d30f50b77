"""Which job goes to which device now, and why another one waits. Pure.

demand      What waits for devices, and which devices have nothing to do
fitting     Where a job fits while a plan is made
plan        Which job goes where now: a pure function of the queue, the time and the policy
preemption  Who has to leave for a job of higher priority
reasons     Why a job waits, in one line for people: dependencies, back-off, limits, devices, memory, whose turn it is
turns       Whose turn it is
"""
