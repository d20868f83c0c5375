"""What is kept over a restart: records, thin ids, intents, statuses and events, in SQLite.

The package imports only the model. One process writes (`lock`), and any number read beside it (`Store.open_read_only`).
"""
