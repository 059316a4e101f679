"""Steps of a process: namespaces, console, hooks, the launch program. Uses linux/ only."""
