"""The state folder lies on a local disk, or control does not start: elsewhere locks and flushes are promises."""

from pathlib import Path

import pytest

from sprite.control import filesystem
from sprite.control.filesystem import check_local_disk, mounts
from sprite.errors import StateFolderUnusable
from tests.control.support import controller, fake_runtime, loop_repo

HERE = Path("/srv/state/repo-1/control")


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "fuse.glusterfs", "lustre"]
)
def test_network_file_system_is_refused_with_folder_type_and_setting(kind: str) -> None:
    with pytest.raises(StateFolderUnusable) as refusal:
        check_local_disk(HERE, [("/", "ext4"), ("/srv/state", kind)])

    for told in (str(HERE), f"({kind})", "OPS_MANAGER_STATE_DIR"):
        assert told in refusal.value.message


@pytest.mark.parametrize(
    "mounted",
    [
        [("/", "ext4")],
        [("/", "nfs"), ("/srv/state", "xfs")],
        [("/", "overlay"), ("/srv/state-of-others", "nfs")],
        [("/srv/state", "nfs"), ("/srv/state", "btrfs")],
        [("/", "apfs"), ("/srv/state/repo-1/control/deeper", "nfs")],
        [],
    ],
    ids=["local", "local_in_network", "beside", "hidden_by_a_later_one", "below", "unknown"],
)
def test_local_disk_is_taken(mounted: list[tuple[str, str]]) -> None:
    check_local_disk(HERE, mounted)


def test_this_machine_says_where_its_temporary_files_lie(tmp_path: Path) -> None:
    assert any(str(tmp_path).startswith(point) for point, _ in mounts())


def test_control_does_not_start_on_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = loop_repo(tmp_path / "repo")
    monkeypatch.setattr(filesystem, "mounts", lambda: [(str(tmp_path / "state"), "nfs4")])

    with pytest.raises(StateFolderUnusable, match="network file system"):
        controller(repo, fake_runtime(tmp_path / "fake"), tmp_path / "state")

    assert not list((tmp_path / "state").rglob("ledger.sqlite3"))
