"""`make demo`: the daemon on a real kernel, what the world does to its devices, and how each of it is healed.

It is an operator with a shell beside the daemon: it breaks things with the tools that everybody has, asks the daemon
over HTTP, and believes only what `dmsetup` says. It imports nothing of the reconciler.
"""
