"""What is typed: a module for each command, which parses, calls and prints.

May use everything and is used by nobody. Begin with ``main``, which finds the command's module.
"""
