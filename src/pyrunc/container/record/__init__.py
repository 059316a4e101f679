"""What is remembered of containers: their directories, locks, records, and what follows from these.

It uses cgroups only to ask for a status, and nothing of making or entering; begin with ``store``.
"""
