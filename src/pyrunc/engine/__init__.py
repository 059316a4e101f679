"""The warm helper process that makes containers for a program: protocol, keeper, server, client."""
