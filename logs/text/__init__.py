"""Everything else that is printed: status, stories, tables, curves."""
