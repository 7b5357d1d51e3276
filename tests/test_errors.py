import inspect

import pytest

from bintally import errors
from bintally.errors import BintallyError, MissingExtraError

ALL = [one for _, one in inspect.getmembers(errors, inspect.isclass) if one.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_of_ours_is_told_in_one_line(kind: type[Exception]) -> None:
    assert issubclass(kind, BintallyError)
    assert kind.__doc__
    # 130 is what shells take for Ctrl-C: of following a job, which goes on.
    assert kind.exit_code in ({130} if kind is errors.FollowStoppedError else {1, 2})


def test_what_the_words_of_a_command_did_exits_with_2() -> None:
    assert {kind.__name__ for kind in ALL if kind.exit_code == 2} == {"SettingsError", "UsageError"}


def test_a_missing_library_names_the_extra() -> None:
    assert "pip install 'bintally[train]'" in str(MissingExtraError("torch", "train"))
