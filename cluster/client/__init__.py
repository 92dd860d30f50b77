"""What a person's side reads and asks: no controller is needed."""
