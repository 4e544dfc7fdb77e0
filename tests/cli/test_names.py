"""How a person names a loop and a sprite."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.names import LoopName, near_names, parse_loop_name, sprite_of_this_machine, sprite_of_url
from contract.errors import IdentifierInvalid
from contract.identifiers import check_sprite_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("acme/demo", LoopName("demo", "acme")),
        ("demo", LoopName("demo")),
        ("loop:acme:demo", LoopName("demo", "acme")),
        ("loop:acme:a:b", LoopName("a:b", "acme")),
        ("acme/loop:x:y", LoopName("loop:x:y", "acme")),
        ("it's 7", LoopName("it's 7")),
    ],
)
def test_name_in_each_form_is_understood(text: str, name: LoopName) -> None:
    assert parse_loop_name(text) == name


@pytest.mark.parametrize("text", ["", "acme/", "/demo", "a/b/c", "../x", "acme/..", "-x", "acme/-x", "a\nb", "x" * 129])
def test_name_that_can_be_no_loop_is_refused(text: str) -> None:
    with pytest.raises(IdentifierInvalid):
        parse_loop_name(text)


def test_named_sprite_gives_the_workflow_id() -> None:
    assert parse_loop_name("acme/demo").workflow_id == "loop:acme:demo"
    assert parse_loop_name("demo").workflow_id is None


def test_near_names_put_the_same_loop_of_other_sprites_first() -> None:
    known = ["acme/demo", "bob/demo", "bob/demolition", "zed/other"]
    assert near_names(LoopName("demo", "acne"), known) == ["acme/demo", "bob/demo"]
    assert near_names(LoopName("dmeo"), known)[:2] == ["acme/demo", "bob/demo"]
    assert near_names(LoopName("DEMOLITION"), known) == ["bob/demolition"]
    assert near_names(LoopName("nothing-like-it"), known) == []


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://acme.example.net/x", "acme"),
        ("http://localhost:8787", "localhost"),
        ("http://127.0.0.1:8787", "127.0.0.1"),
        ("http://[::1]:8787", "ip6---1"),
        ("http://my_host.lan", "my_host"),
    ],
)
def test_sprite_is_named_after_the_first_label_or_the_whole_address(url: str, name: str) -> None:
    assert sprite_of_url(url) == name


def test_url_without_a_usable_host_asks_for_a_name() -> None:
    with pytest.raises(IdentifierInvalid, match="--sprite NAME"):
        sprite_of_url("http://---/")


@given(st.text(min_size=1, max_size=80))
def test_any_hostname_becomes_a_valid_sprite_name_or_a_question(hostname: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.gethostname", lambda: hostname)
        try:
            name = sprite_of_this_machine()
        except IdentifierInvalid as error:
            assert "--sprite NAME" in str(error)  # noqa: PT017 - both outcomes are right, depending on the name
        else:
            assert check_sprite_name(name) == name
