"""The one writer of the queue: the loop, and what it hears and answers."""
