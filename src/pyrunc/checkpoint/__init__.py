"""Saving running containers and bringing them back: CRIU does it, told here what is outside."""
