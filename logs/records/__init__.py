"""What runs leave behind: measurements, results, TensorBoard files."""
