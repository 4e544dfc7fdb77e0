from pathlib import Path

import pytest

from activities.secrets import SecretUnavailable, resolve_secret


def test_a_changed_variable_is_used_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRITE_TOKEN", "first")
    assert resolve_secret("env:SPRITE_TOKEN") == "first"
    monkeypatch.setenv("SPRITE_TOKEN", "second")
    assert resolve_secret("env:SPRITE_TOKEN") == "second"


def test_a_rotated_file_is_used_at_once_and_its_newline_dropped(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    assert resolve_secret(f"file:{file}") == "first"
    file.write_text("second\n")
    assert resolve_secret(f"file:{file}") == "second"


def test_a_value_with_inner_spaces_is_kept_for_a_whole_authorization_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE", "Basic dXNlcjpwYXNz")
    assert resolve_secret("env:EDGE") == "Basic dXNlcjpwYXNz"


@pytest.mark.parametrize(
    ("reference", "names"),
    [
        ("env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set"),
        ("file:/nowhere/token", "/nowhere/token cannot be read"),
        ("env:EMPTY", "env:EMPTY is empty"),
    ],
)
def test_a_missing_secret_is_named_by_its_reference(
    reference: str, names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMPTY", "  \n")
    with pytest.raises(SecretUnavailable, match=names):
        resolve_secret(reference)


@pytest.mark.parametrize("value", ["two\nlines-of-hunter2", "hunter2-with-ümlaut", "hunter2\x00"])
def test_a_value_no_header_can_carry_is_refused_without_showing_it(value: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(value, encoding="utf-8")
    with pytest.raises(SecretUnavailable) as refused:
        resolve_secret(f"file:{file}")
    assert "hunter2" not in str(refused.value)


def test_a_secret_given_instead_of_a_reference_is_never_repeated() -> None:
    with pytest.raises(SecretUnavailable) as refused:
        resolve_secret("hunter2")
    assert "hunter2" not in str(refused.value)
    assert "env:NAME" in str(refused.value)


def test_a_file_too_large_for_a_token_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x" * 100_000)
    with pytest.raises(SecretUnavailable, match="larger than"):
        resolve_secret(f"file:{file}")
