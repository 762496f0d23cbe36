"""A crash process for a dump: its command line, its environment, its p2m list."""
