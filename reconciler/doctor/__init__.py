"""What is wrong on this host, what can be done about it, and doing it. It stands between the commands and the daemon."""
