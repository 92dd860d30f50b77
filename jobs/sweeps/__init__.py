"""What a sweep file says: its settings typed, its axes expanded to runs, each run with its identity."""
