"""Steps of a process: namespaces, console, hooks, the launch program and its last mile.

Uses linux/ only. Begin with ``launch``: all that init does is made of it.
"""
