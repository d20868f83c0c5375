"""dm-reconciler: keeps device-mapper thin devices in the state that YAML records declare."""

__version__ = "0.2.0"
