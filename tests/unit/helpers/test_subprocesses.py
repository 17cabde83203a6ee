"""Processes of tests do not outlive them."""

import signal
import time

import pytest

from tests.helpers.subprocesses import children, wait_for


def sleep() -> None:
    print("asleep", flush=True)
    time.sleep(1000)


def test_one_that_hangs_is_named_with_its_stack_and_killed() -> None:
    with children() as begin:
        child = begin(sleep)
        while "asleep" not in child.text():
            time.sleep(0.01)
        with pytest.raises(pytest.fail.Exception, match=r"of 1 processes \[0\] hung") as failure:
            wait_for([child], limit=0.1)
    assert "in sleep" in str(failure.value)
    assert child.process.exitcode == -signal.SIGKILL
