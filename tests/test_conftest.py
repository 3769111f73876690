"""What conftest.py guards all tests against."""

import time

import pytest

from tests.conftest import pytest_runtest_call


@pytest.mark.parametrize("name", ["monotonic", "time", "sleep"])
def test_a_test_that_moves_the_clock_of_all_threads_fails(name):
    call = pytest_runtest_call()
    next(call)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, name, lambda *_: 0.0)
        with pytest.raises(pytest.fail.Exception, match=name):
            call.send(None)
