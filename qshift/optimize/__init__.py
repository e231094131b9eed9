"""Minimisation with exact derivatives."""
