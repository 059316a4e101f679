"""The library's upper floor: one logic for the synchronous and the asyncio face.

Uses the engine and all below. Begin with ``logic``, which both faces drive.
"""
