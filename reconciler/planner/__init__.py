"""What to do about what was found: pure functions of the facts (a record, what is stored, what is live, since when).

There is no I/O and no clock here; the time is one of the facts. The tables of docs/reference/healing.md stand here as
ladders of early returns, in the order of their rows.
"""
