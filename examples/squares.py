"""Functions in containers: what a process pool does, with limits and nothing shared."""

import math

import pyrunc

if __name__ == "__main__":
    with pyrunc.Executor(memory="128M", timeout=5, best_effort=True) as executor:
        print(list(executor.map(math.isqrt, [1, 4, 9, 16])))
        future = executor.submit(math.factorial, 10**8)
        print("ready:", executor.submit(math.factorial, 10).result())
        print("too long:", type(future.exception()).__name__)
