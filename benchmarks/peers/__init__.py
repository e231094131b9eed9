"""What is measured, one process each, so that each may have an environment of its own."""
