"""Starting from a snapshot of the initialised interpreter: how one is made (docs/snapshot.md).

The launcher puts it back (``launcher/restore.c``); nothing here is loaded then.
"""
