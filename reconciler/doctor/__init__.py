"""Finds out what is wrong on this host and what can be done about it, and does it. Above the daemon, below the
commands.
"""
