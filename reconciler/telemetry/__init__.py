"""What is told to the outside: metrics, HTTP, logs, systemd.

Imports the model only. Nothing here looks at the kernel or the store; it is handed what it tells.
"""
