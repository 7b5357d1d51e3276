from bintally.progress import Progress, Silent


def test_silent_is_a_progress_and_shows_nothing(capsys: object) -> None:
    listener: Progress = Silent()
    listener.begin("count", 3)
    listener.advance(2, note="5/s")
    listener.message("a line")
    listener.end()
    out, err = capsys.readouterr()  # type: ignore[attr-defined]
    assert (out, err) == ("", "")
