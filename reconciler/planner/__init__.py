"""Decides what to do about what was found: pure functions of the facts (a record, what is stored, what is live, and how
long each sign has lasted).

There is no I/O and no clock here; the time is one of the facts. The tables of docs/reference/healing.md are written as
ladders of early returns, in the order of their rows.
"""
