"""The control loop: keys in a queue, a scan, a plan, its steps, and a second scan that verifies them.

The loop is level-triggered: an event only says that something should be scanned, never what to do about it.
"""
