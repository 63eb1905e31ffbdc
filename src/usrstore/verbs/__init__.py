"""The front door: one module for each verb, each reading like the data's own path."""
