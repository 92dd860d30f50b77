"""`watch`: frames, keys, the loop, and the terminal given back.

feed      Views for a dashboard, made in a thread of their own: a stalled file system never holds up the keys
frame     The dashboard's frames: a View and a Screen drawn as exactly as many lines as the terminal has
live      The dashboard alive: views from a feed, keys from the terminal, frames at most four times a second
screen    What the person at the dashboard has chosen, and what a key changes about it
terminal  The terminal while a dashboard is open: keys one by one, and the screen given back as it was, whatever ends us
"""
