"""What a job of this project is: its configuration, its process, its entry points."""
