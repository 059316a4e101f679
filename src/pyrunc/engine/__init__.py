"""The warm helper process that makes containers for a program: protocol, keeper, server, client.

Uses container/ and all below. Begin with ``server``, which answers what ``client`` asks.
"""
