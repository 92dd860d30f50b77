"""A picture of everything as plain values: what runs, what waits, when it will be done."""
