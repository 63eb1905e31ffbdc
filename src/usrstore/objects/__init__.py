"""Words: the pure values of format version 1. No clock, no disk, no environment."""
