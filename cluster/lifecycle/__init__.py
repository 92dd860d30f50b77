"""Bringing a workspace up, keeping it up, taking it down."""
