"""What is typed: one module a command; parse, call the container room, print."""
