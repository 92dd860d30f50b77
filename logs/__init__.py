"""What runs say: metrics, dashboard, plots, results tables."""
