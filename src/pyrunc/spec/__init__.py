"""config.json: load and check it, its defaults, and what pyrunc supports of it.

This room knows no other one (but :mod:`pyrunc.errors`) and touches nothing on
the machine. ``load`` is the door; ``kinds`` the vocabulary of the tables in
``config``, ``process``, ``linux``, ``resources``, ``seccomp`` and ``sysctl``.
"""
