"""What to do about what was found: pure functions of (record, what the store knows, what is live, since when).

No I/O and no clock in here; the time is part of the case. The tables of docs/reference/healing.md stand here as
ladders of early returns, in the order of their rows.
"""
