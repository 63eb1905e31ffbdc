"""Where bytes rest: anything with five verbs."""
