"""What a container's processes may do: capabilities, seccomp, AppArmor and SELinux.

Uses linux/ only; begin with ``capabilities`` and ``seccomp``. Here names of config.json become
masks, filters and labels; what applies them is in the process room. This room touches nothing but
its cache of compiled filters.
"""
