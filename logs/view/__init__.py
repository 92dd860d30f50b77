"""A picture of everything as plain values: what runs, what waits, when it will be done.

build     From what the queue knows to what is shown: builds a View
eta       When will it be done? From measured speeds, with a range
forecast  From the queue's records to when each sweep ends: what jobs took, what runs, what waits, where is room
timeline  The last things that happened, in words, from the jobs' records
view      What the views draw: a snapshot of everything a person may want to see, as plain values
"""
