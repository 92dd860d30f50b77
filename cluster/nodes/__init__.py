"""How a node takes part in a workspace."""
