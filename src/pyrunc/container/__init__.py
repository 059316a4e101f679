"""The life of a container: create, start, kill, exec, delete; state on disk."""
