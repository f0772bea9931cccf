"""Puts a bug of the course into the package for a whole run: MINIBERT_BUG=pre-ln pytest -p course_plugin TEST"""

import os

import pytest

from minibert.check.course import chosen


def pytest_configure(config: pytest.Config) -> None:
    context = chosen(os.environ["MINIBERT_BUG"]).put_in()
    context.__enter__()
    config.add_cleanup(lambda: context.__exit__(None, None, None))
