"""The library's upper floor: one logic for the synchronous and the asyncio face."""
