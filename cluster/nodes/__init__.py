"""How a machine takes part in a workspace."""
