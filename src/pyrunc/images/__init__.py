"""Archives and OCI layouts of images to root file systems on disk. Nothing is fetched.

Uses linux/ only. Begin with ``sources``, which tells what kind of image a path is.
"""
