"""Whether the sprite that answers is the one that is meant."""

from pathlib import Path

import pytest

from activities.failures import Condition
from activities.targets import check_identity
from contract.observation import Contact, Target


def test_repo_named_through_a_link_is_the_same_repo(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    target = Target(sprite="acme", loop_id="demo", repo_path=str(tmp_path / "real"))
    check_identity(target, None, str(tmp_path / "link"))
    check_identity(target.model_copy(update={"repo_path": str(tmp_path / "link")}), None, str(tmp_path / "real"))


def test_another_repo_is_another_sprite(tmp_path: Path) -> None:
    target = Target(sprite="acme", loop_id="demo", repo_path=str(tmp_path / "real"))
    with pytest.raises(Condition) as raised:
        check_identity(target, None, str(tmp_path / "other"))
    assert raised.value.contact is Contact.WRONG_SPRITE
