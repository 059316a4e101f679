"""The steps inside the container's mount namespace: root, mounts, devices, protected paths.

Uses linux/ only. Begin with ``root`` and ``mount``; ``target`` tells how a place is found safely.
"""
