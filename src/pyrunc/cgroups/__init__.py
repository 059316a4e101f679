"""Control groups: v1, v2, device rules, statistics. Uses linux/ only."""
