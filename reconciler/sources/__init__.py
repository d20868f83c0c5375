"""Where records come from: manifests in a directory, checked before anything is done with them.

Nothing here imports planner, store, kernel or telemetry, and nothing that is read is trusted.
"""
