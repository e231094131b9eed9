"""Batches of circuits on other processes: those of this machine, or of a cluster."""
