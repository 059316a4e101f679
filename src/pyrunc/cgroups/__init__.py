"""Control groups: drivers for v1, v2 and systemd's scopes, device rules, statistics.

Uses linux/ only. Begin with ``driver``, which picks one; ``entrance`` tells how processes get in.
"""
