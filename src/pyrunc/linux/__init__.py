"""The system calls that ``posix`` lacks, thin and typed: no policy.

Knows no other room. Begin with ``files`` (by descriptor, never by name twice) and ``processes``.
"""
