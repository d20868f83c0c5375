"""Pure data: records, what is live, what is stored, steps and conditions.

Nothing here does I/O, reads a clock or imports another layer.
"""
