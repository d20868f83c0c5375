"""Every command in one line, so that listing them imports none of them.

A command NAME is `command` in the module `reconciler.cli.NAME`, whose docstring begins with the line given here.
"""

from __future__ import annotations

from typing import Final

COMMANDS: Final = {
    "run": "Keep the devices as the manifests declare them: the daemon.",
    "apply": "Converge once, show each step, and exit.",
    "plan": "Show what `apply` would do and why, and change nothing.",
    "get": "List pools and devices: desired, live, ready, and why not.",
    "tree": "Show pools, origins and their snapshots as a tree.",
    "describe": "Show everything known of one pool or device.",
    "events": "Show what was found and what was done about it, newest last.",
    "wait": "Wait until a device or pool is ready.",
    "validate": "Check manifests, without a kernel or a store.",
    "schema": "Print the JSON Schema of manifests, for editors.",
    "doctor": "Find out whether this host is fit, and what to do if not.",
    "forget": "Drop a record from the store, leave device and data alone.",
    "sandbox": "Run a command, or a shell, inside a throw-away kernel.",
}
"""In the order in which people need them."""
