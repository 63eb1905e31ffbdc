"""Keeping: packs, states, and the one room that makes writes durable."""
