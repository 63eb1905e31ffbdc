"""The folder: scan it, cut it, capture it, stage a new state beside it, promote that state."""
