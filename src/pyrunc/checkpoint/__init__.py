"""Saving running containers and bringing them back: CRIU does it, told here what is outside.

Uses container/ and all below. Begin with ``dump`` and ``restore``; ``criu`` talks to the program.
"""
