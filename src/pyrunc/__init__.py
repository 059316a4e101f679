"""pyrunc: an OCI container runtime for Linux."""

from __future__ import annotations

__version__ = "0.1.0"
