"""From a config to the ordered steps that make the container: pure, nothing is touched."""
