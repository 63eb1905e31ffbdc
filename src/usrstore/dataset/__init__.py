"""What is inside a dataset: the locks of the tools that share it, its registry."""
