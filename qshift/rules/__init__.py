"""Numbers only: which shifted points give a derivative, and how their values are combined."""
