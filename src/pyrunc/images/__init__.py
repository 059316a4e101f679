"""Archives and OCI layouts of images to root file systems on disk. Nothing is fetched."""
