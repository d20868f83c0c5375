"""Wires everything together: the only place that constructs. Signals, systemd, what is heard from the host."""
