"""Wires everything together, and runs it: signals, systemd, and the announcements of the host."""
