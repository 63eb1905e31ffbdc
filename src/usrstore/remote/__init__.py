"""Store to store: what two ends say to each other, and over what."""
