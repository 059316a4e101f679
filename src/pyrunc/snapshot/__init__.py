"""Starting from a snapshot of the initialised interpreter: how one is made (docs/snapshot.md).

Uses all below. Begin with ``make``. The launcher puts it back (``launcher/restore.c``); of what is
here only ``started`` is loaded then.
"""
