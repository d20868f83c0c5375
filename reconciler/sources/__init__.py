"""Where records come from: manifests in a directory, checked before anybody acts on them.

Nothing here imports planner, store, kernel or telemetry, and nothing trusts what it reads.
"""
