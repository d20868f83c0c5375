"""The HTTP endpoint: metrics, health, records and the page."""
