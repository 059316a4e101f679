"""Run a hundred snippets of other people's code at a time, each in a container of its own."""

import asyncio

import pyrunc

SNIPPETS = [
    "print(6 * 7)",
    "while True: pass",
    "x = bytearray(1 << 30)",
    "open('/etc/shadow').read()",
    "import urllib.request; urllib.request.urlopen('http://192.0.2.1', timeout=1)",
    "while True: print('spam' * 1000)",
    "import os\nwhile True: os.fork()",
]


async def run(number: int, limit: asyncio.Semaphore) -> str:
    """Run one snippet and say how it went."""
    async with limit:
        result = await pyrunc.aio.run(
            ["python3", "-c", SNIPPETS[number % len(SNIPPETS)]],
            timeout=20,
            cpu_time=2,
            memory="64M",
            pids=16,
            output="10K",
            stop_on_output=True,
            text=True,
            best_effort=True,
        )
    last = (result.stderr or result.stdout).strip().rpartition("\n")[2]
    return f"{number:3} {result.status:8} {result.duration:5.2f} s  {last[:60]}"


async def main() -> None:
    """Run all of them."""
    limit = asyncio.Semaphore(100)
    for line in await asyncio.gather(*(run(number, limit) for number in range(100))):
        print(line)


if __name__ == "__main__":
    asyncio.run(main())
