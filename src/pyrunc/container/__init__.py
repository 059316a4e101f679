"""The life of a container: made, entered, started, killed, deleted; and what is remembered of it.

Uses the planner and all below; its functions take values, return values, raise, and never print.
Begin with ``making/create``; ``making``, ``entering`` and ``record`` are rooms of their own.
"""
