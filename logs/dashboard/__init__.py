"""`watch`: frames, keys, the loop, and the terminal given back."""
