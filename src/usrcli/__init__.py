"""The command line: the only place that knows argv, environment, terminal and exit codes."""
