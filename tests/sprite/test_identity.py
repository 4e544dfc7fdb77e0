"""The sprite's id and state folder: one per repo and user, the same for every process."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sprite.errors import RepoInvalid, StateFolderUnusable
from sprite.identity import sprite_id, state_folder, state_root
from sprite.reader import SpriteReader
from tests.sprite.repos import Repo


def test_id_is_made_once_and_kept_for_its_owner_only(repo: Repo) -> None:
    first = repo.reader()
    assert repo.reader().sprite_id == first.sprite_id
    file = first.state_folder / "sprite_id"
    assert file.read_text().strip() == first.sprite_id
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.state_folder.stat().st_mode) == 0o700


def test_id_differs_between_repos_and_between_machines(tmp_path: Path) -> None:
    for name in ("a/repo", "b/repo"):
        (tmp_path / name).mkdir(parents=True)
    ids = {
        SpriteReader(tmp_path / name, state_dir=tmp_path / machine).sprite_id
        for name in ("a/repo", "b/repo")
        for machine in ("m1", "m2")
    }
    assert len(ids) == 4


def test_repo_reached_through_a_link_is_the_same_sprite(repo: Repo, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(repo.path)
    reader = SpriteReader(link, state_dir=repo.state_dir)
    assert reader.repo == repo.path.resolve()
    assert reader.sprite_id == repo.reader().sprite_id


def test_processes_that_start_at_once_agree_on_the_id(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from sprite.identity import sprite_id; sys.stdin.read(1); "
    program += "print(sprite_id(Path(sys.argv[1])))"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("g")
        racer.stdin.flush()
    ids = {racer.communicate()[0].strip() for racer in racers}
    assert ids == {sprite_id(tmp_path)}


def test_file_that_holds_no_id_is_refused_with_the_way_out(repo: Repo) -> None:
    folder = repo.reader().state_folder
    (folder / "sprite_id").write_text("")
    with pytest.raises(StateFolderUnusable, match="remove it to get a new one"):
        repo.reader()


def test_state_folder_that_cannot_be_made_is_named(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateFolderUnusable, match="OPS_MANAGER_STATE_DIR"):
        SpriteReader(repo.path, state_dir=tmp_path / "file")


def test_state_folder_lies_outside_the_work_tree(repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPS_MANAGER_STATE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert state_root() == tmp_path / "home" / ".local" / "state" / "superloop-ops-manager"
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    assert state_root() == tmp_path / "home" / ".local" / "state" / "superloop-ops-manager"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_root() == tmp_path / "xdg" / "superloop-ops-manager"
    monkeypatch.setenv("OPS_MANAGER_STATE_DIR", str(tmp_path / "own"))
    assert state_folder(repo.path).parent == tmp_path / "own"


@pytest.mark.parametrize("name", ["missing", "file"])
def test_repo_that_is_no_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RepoInvalid, match="is not a directory"):
        SpriteReader(tmp_path / name, state_dir=tmp_path / "state")
