"""What is reported to the outside: metrics, HTTP, logs, systemd.

It imports only the model. Nothing here reads the kernel or the store; other layers hand over what to report.
"""
