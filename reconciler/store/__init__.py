"""What is remembered over a restart: records, thin ids, operations under way, statuses and events, in SQLite.

Imports nothing but the model. One process writes (`lock`), any number read beside it (`Store.open_read_only`).
"""
