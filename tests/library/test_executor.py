"""`pyrunc.Executor`: functions in containers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import Executor, as_completed

import pytest
from conftest import PREAMBLE

import pyrunc

pytestmark = pytest.mark.usefixtures("no_remains")


def test_functions_run_in_containers():
    with pyrunc.Executor(2) as executor:
        assert isinstance(executor, Executor)
        assert executor.submit(os.getpid).result() == 2
        assert list(executor.map(pow, [2, 3], [5, 2])) == [32, 9]
        futures = [executor.submit(divmod, n, 3) for n in range(6)]
        assert {future.result() for future in as_completed(futures)} == {
            divmod(n, 3) for n in range(6)
        }


def test_exceptions_come_back_with_their_traceback():
    with pyrunc.Executor(1) as executor:
        future = executor.submit(int, "no number")
        with pytest.raises(ValueError, match="no number") as caught:
            future.result()
        assert isinstance(caught.value.__cause__, pyrunc.RemoteTraceback)
        assert "Traceback" in caught.value.__cause__.text


def test_limits_are_exceptions():
    with pyrunc.Executor(1, timeout=1) as executor:
        slow = executor.submit(time.sleep, 1000)
        with pytest.raises(pyrunc.TimeoutExpired):
            slow.result()
    with pyrunc.Executor(2, memory="64M", timeout=60, result_size="1M") as executor:
        large = executor.submit(bytearray, 200 << 20)
        flood = executor.submit(bytes, 10 << 20)
        died = executor.submit(os._exit, 7)
        # Python has a MemoryError of its own only where the kernel refuses instead of killing.
        with pytest.raises((pyrunc.ProgramFailed, MemoryError)):
            large.result()
        with pytest.raises(pyrunc.ProgramFailed, match="printed too much"):
            flood.result()
        with pytest.raises(pyrunc.ProgramFailed, match="exited with 7"):
            died.result()


def test_what_a_task_prints_is_no_result(capfd):
    with pyrunc.Executor(1) as executor:
        assert executor.submit(print, "hello").result() is None


class Harmful:
    """Unpickled, it runs what it likes."""

    def __reduce__(self):
        return os._exit, (3,)


def test_json_gives_back_values_only():
    with pyrunc.Executor(1, results="json") as executor:
        assert executor.submit(dict, a=[1, None, "x"]).result() == {"a": [1, None, "x"]}
        with pytest.raises(pyrunc.TaskFailed, match="not JSON serializable"):
            executor.submit(complex, 1, 2).result()
        with pytest.raises(pyrunc.TaskFailed, match="ValueError"):
            executor.submit(int, "x").result()
        # Pickled and unpickled here, it would end this process.
        with pytest.raises(pyrunc.TaskFailed, match="Harmful is not JSON"):
            executor.submit(Harmful).result()


def test_functions_of_main_with_cloudpickle():
    pytest.importorskip("cloudpickle")
    script = PREAMBLE + (
        "base = 40\ndef add(x): return base + x\n"
        "with pyrunc.Executor(1) as e: print(e.submit(add, 2).result())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "42\n"


def test_modules_in_a_directory_that_is_a_link(tmp_path, monkeypatch):
    """The link lies in a directory that is there as well; where it leads to is somewhere else."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/behind_a_link.py").write_text("def seven(): return 7\n")
    (tmp_path / "path").mkdir()
    (tmp_path / "path/link").symlink_to(tmp_path / "elsewhere")
    for directory in (tmp_path / "path", tmp_path / "path/link"):
        monkeypatch.syspath_prepend(directory)
    import behind_a_link

    with pyrunc.Executor(1) as executor:
        assert executor.submit(behind_a_link.seven).result() == 7


def test_arguments_that_are_the_executor_s_own():
    with pytest.raises(pyrunc.InvalidArgument):
        pyrunc.Executor(input=b"x")
    with pytest.raises(pyrunc.InvalidArgument):
        pyrunc.Executor(results="yaml")
