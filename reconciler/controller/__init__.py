"""The loop: keys in a queue, one look, a plan, its steps, another look.

Level-triggered: an event only says that something should be looked at, never what to do.
"""
