"""The one writer of the queue: the loop, and what it hears and answers.

keeping   What people ask of jobs that are there, beside starting and stopping them: terms, marks, removal
loop      The loop: reports and requests in, journal, state machine, plan, commands out
notify    Tell people: a command of theirs is run when a sweep has ended or a job has failed for good
reports   What the world reports, as events; and what must be done because a report is not what the queue believes
requests  What people ask for, as events: pure, but for reading what was submitted
sweeper   A thread that removes from the disk what was put out of its place
"""
