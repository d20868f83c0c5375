"""Finds what is wrong on this host, says what can be done, and does it. It is above the daemon, below the commands."""
