"""From options to the sprite that is meant."""

from pathlib import Path
from typing import Any

import pytest

from cli.errors import UsageProblem
from cli.places import Place, place
from cli.starting import differences, initial_search_attributes
from contract.errors import SecretReferenceInvalid
from contract.observation import Target
from worker.settings import Settings, SpriteSettings
from workflows.search_attributes import LOOP_STATUS, LOOP_TRANSPORT, SPRITE_ID

URL = "https://acme.example.net"


def made(settings: Settings | None = None, **options: Any) -> Place | None:
    given: dict[str, Any] = {"repo": None, "service_url": None, "token": None, "edge_auth": None, "sprite": None}
    return place(settings or Settings(), **{**given, "loops": (), **options})


def test_service_names_the_sprite_and_both_transports_may_be_given(tmp_path: Path) -> None:
    found = made(service_url=f"{URL}/", token="env:TOKEN", repo=tmp_path, loops=("demo", "demo"))
    assert found == Place(sprite="acme", service_url=URL, token="env:TOKEN", repo=tmp_path.resolve(), loops=("demo",))
    assert not found.local_only
    assert found.target("demo", sprite_id="s") == Target(
        sprite="acme",
        loop_id="demo",
        sprite_id="s",
        repo_path=str(tmp_path.resolve()),
        service_url=URL,
        token="env:TOKEN",
    )


def test_repo_alone_is_local_only_and_named_without_its_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    found = made(repo=tmp_path / "link", sprite="acme")
    assert found is not None
    assert found.local_only
    assert found.repo == tmp_path.resolve() / "real", "the sprite itself names its repo without links"


def test_secret_file_is_named_by_its_whole_path_for_a_reader_who_stands_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir("/")
    found = made(service_url=URL, token="file:run/token", edge_auth="env:EDGE")
    assert found is not None
    assert (found.token, found.edge_auth) == ("file:/run/token", "env:EDGE")


def test_sprite_of_the_settings_needs_no_other_option(tmp_path: Path) -> None:
    known = SpriteSettings(service_url=URL, token="env:ACME", repo_path=tmp_path)
    found = made(Settings(sprites={"bob": known}), sprite="bob", loops=("demo",))
    assert found == Place(sprite="bob", service_url=URL, token="env:ACME", repo=tmp_path.resolve(), loops=("demo",))


def test_options_that_are_given_win_over_the_settings(tmp_path: Path) -> None:
    known = SpriteSettings(service_url=URL, token="env:ACME")
    found = made(Settings(sprites={"bob": known}), sprite="bob", repo=tmp_path)
    assert found == Place(sprite="bob", repo=tmp_path.resolve())


def test_nothing_named_is_no_place() -> None:
    assert made() is None


@pytest.mark.parametrize(
    "options",
    [
        {"loops": ("demo",)},
        {"sprite": "unknown"},
        {"token": "env:X"},
        {"repo": Path("/"), "edge_auth": "env:X"},
        {"service_url": "acme.example.net"},
        {"service_url": f"{URL}?token=1"},
        {"service_url": URL, "sprite": "a/b"},
        {"service_url": URL, "loops": ("-x",)},
    ],
)
def test_options_that_name_no_place_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageProblem):
        made(**options)


def test_secret_given_instead_of_its_reference_is_refused_and_not_repeated() -> None:
    with pytest.raises(SecretReferenceInvalid) as refused:
        made(service_url=URL, token="hunter2hunter2")
    assert "hunter2" not in str(refused.value)


def test_options_of_a_place_name_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = made(service_url=URL, token="env:TOKEN", repo=tmp_path / "repo")
    assert found is not None
    assert found.options() == ["--service-url", URL, "--token", "env:TOKEN", "--repo", "repo", "--sprite", "acme"]


def test_supervisor_with_another_target_is_told_apart_and_one_that_learnt_its_sprite_is_not() -> None:
    known = Target(sprite="acme", loop_id="demo", service_url=URL, token="env:OLD", sprite_id="s")
    wanted = known.model_copy(update={"token": "env:NEW"})
    assert differences(known, wanted) == ("token is env:OLD, not env:NEW",)
    assert differences(known, known.model_copy(update={"sprite_id": None})) == ()
    assert differences(known, known.model_copy(update={"sprite_id": "t"})) == ("spriteId is s, not t",)
    assert differences(known, known.model_copy(update={"repo_path": "/r"})) == ("repo path is none, not /r",)


@pytest.mark.parametrize(("local_only", "transport"), [(True, "local"), (False, "sprite_service")])
def test_supervisor_is_visible_before_its_first_observation(local_only: bool, transport: str) -> None:
    target = Target(sprite="acme", loop_id="demo", service_url=None if local_only else URL, sprite_id="s")
    attributes = initial_search_attributes(target, local_only=local_only)
    assert (attributes[LOOP_STATUS], attributes[LOOP_TRANSPORT], attributes[SPRITE_ID]) == ("unknown", transport, "s")
