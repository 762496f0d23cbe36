"""The hypervisor in machine memory: its notes, frame table, domains and virtual cpus."""
