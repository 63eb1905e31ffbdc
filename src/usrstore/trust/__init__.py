"""Believing: signatures, signers, and the one place that decides what to believe."""
