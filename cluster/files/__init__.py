"""What stands on disk: journal, inbox, lease, live figures, and where each file is."""
