"""The runbook as a program: throw-away roots, a real link, real faults, checked contracts."""
