"""The steps inside the container's mount namespace: root, mounts, devices, protected paths."""
