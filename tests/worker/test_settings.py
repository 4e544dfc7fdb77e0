"""Settings: where they come from, which source wins, and what is refused without showing it."""

from datetime import timedelta
from pathlib import Path

import pytest

from contract.supervision import SupervisorOptions
from worker.errors import SettingsInvalid
from worker.settings import load_settings

SECRET = "s3cr3t-Token-Value"


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's settings nor its home folder take part."""
    monkeypatch.chdir(tmp_path)
    for variable in ("OPS_MANAGER_CONFIG", "OPS_MANAGER_DATA_FOLDER", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(config: Path | None = None, **flags: object) -> str:
    with pytest.raises(SettingsInvalid) as raised:
        load_settings(config, **flags)
    return str(raised.value)


def test_nothing_configured_gives_defaults(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.task_queue == "ops-manager"
    assert settings.max_loops == 2_000
    assert settings.graceful_shutdown == timedelta(seconds=10)
    assert settings.data_folder == tmp_path / "home/.local/share/superloop-ops-manager"
    assert settings.sprites == {}
    assert settings.supervision.options() == SupervisorOptions()
    assert settings.source_file is None


def test_data_folder_follows_xdg_unless_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert load_settings().data_folder == tmp_path / "data/superloop-ops-manager"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert load_settings().data_folder == tmp_path / "home/.local/share/superloop-ops-manager"


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ops-manager.toml", 'task_queue = "file"\nmax_loops = 7\ngraceful_shutdown = "1m30s"\n')
    monkeypatch.setenv("OPS_MANAGER_TASK_QUEUE", "environment")
    monkeypatch.setenv("OPS_MANAGER_MAX_LOOPS", "8")
    settings = load_settings(max_loops=9, data_folder=None)
    assert (settings.max_loops, settings.task_queue) == (9, "environment")
    assert settings.graceful_shutdown == timedelta(seconds=90)
    assert settings.source_file == tmp_path / "ops-manager.toml"


def test_tables_of_several_sources_are_merged_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path / "ops-manager.toml",
        '[sprites.acme]\nservice_url = "https://acme.example.net/"\ntoken = "env:FROM_FILE"\n'
        '[sprites.bar]\nrepo_path = "project"\n[supervision]\nidle_poll_interval = "2m"\n',
    )
    monkeypatch.setenv("OPS_MANAGER_SPRITES__ACME__TOKEN", "file:/run/token")
    monkeypatch.setenv("OPS_MANAGER_SUPERVISION__STALE_AFTER", "500ms")
    settings = load_settings()
    acme = settings.sprites["acme"]
    assert (acme.service_url, acme.token) == ("https://acme.example.net", "file:/run/token")
    assert settings.sprites["bar"].repo_path == tmp_path / "project"
    options = settings.supervision.options()
    assert (options.idle_poll_interval_s, options.stale_after_s) == (120.0, 0.5)
    assert options.observe_max_s == SupervisorOptions().observe_max_s


def test_file_is_searched_in_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "home/.config/superloop-ops-manager/config.toml", 'task_queue = "home"')
    assert load_settings().task_queue == "home"
    write(tmp_path / "ops-manager.toml", 'task_queue = "here"')
    assert load_settings().task_queue == "here"
    monkeypatch.setenv("OPS_MANAGER_CONFIG", str(write(tmp_path / "variable.toml", 'task_queue = "variable"')))
    assert load_settings().task_queue == "variable"
    assert load_settings(write(tmp_path / "flag.toml", 'task_queue = "flag"')).task_queue == "flag"


def test_named_file_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(tmp_path / "gone.toml") in refusal(tmp_path / "gone.toml")
    monkeypatch.setenv("OPS_MANAGER_CONFIG", "gone.toml")
    assert "OPS_MANAGER_CONFIG" in refusal()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_lops = 3", "did you mean max_loops?"),
        ('[sprites.acme]\nrepo_path = "/r"\ntokn = "env:X"', "sprites.acme.tokn"),
        ('[sprites.acme]\nrepo_path = "/r"\ntokn = "env:X"', "did you mean token?"),
        ('[supervision]\nstale = "1m"', "did you mean stale_after?"),
        ("max_loops = 0", "max_loops"),
        ("graceful_shutdown = 10", "with its unit"),
        ('graceful_shutdown = "10"', "with its unit"),
        ('graceful_shutdown = "0s"', "longer than nothing"),
        ('graceful_shutdown = "5 minutes"', "with its unit"),
        ('[supervision]\nidle_poll_interval = "1ms"', "supervision.idle_poll_interval"),
        ('[supervision]\nidle_poll_interval = "1ms"', "must be at least 1s"),
        ('[supervision]\nrunning_poll_interval = "999ms"', "must be at least 1s"),
        ('[supervision]\nprobe_interval = "0.5s"', "must be at least 1s"),
        ('[supervision]\nprobe_max_interval = "0.5s"', "must be at least 1s"),
        ('[supervision]\nobserve_max = "10ms"', "must be at least 1s"),
        ('[supervision]\nobserve_max = "0s"', "longer than nothing"),
        ('data_folder = ""', "data_folder"),
        ('data_folder = " "', "must not be empty"),
        ('[sprites.acme]\nrepo_path = ""', "must not be empty"),
        ('task_queue = "a b"', "task_queue"),
        ('[sprites."a/b"]\nrepo_path = "/r"', "sprite name"),
        ("[sprites.acme]", "service_url (with token) or repo_path"),
        ('[sprites.acme]\nservice_url = "acme.example.net"', "http or https URL"),
        ('[sprites.acme]\nservice_url = "https://acme.example.net:99999"', "is not a URL"),
        ('[sprites.acme]\nrepo_path = "/r"\ntoken = "env:X"', "no service_url to use it with"),
        ("max_loops = ", "is not valid TOML"),
    ],
)
def test_wrong_file_is_refused_saying_where_and_what(tmp_path: Path, text: str, expected: str) -> None:
    message = refusal(write(tmp_path / "given.toml", text))
    assert expected in message
    assert "given.toml" in message


@pytest.mark.parametrize(
    "text",
    [
        f'[sprites.acme]\nservice_url = "http://a"\ntoken = "{SECRET}"',
        f'[sprites.acme]\nservice_url = "http://a"\nedge_auth = "{SECRET}"',
        f'[sprites.acme]\nservice_url = "http://a"\ntoken = ["{SECRET}"]',
        f'[sprites.acme]\nservice_url = "http://a"\ntokn = "{SECRET}"',
        f'[sprites.acme]\nservice_url = "http://ana:{SECRET}@a"',
        f'[sprites.acme]\nservice_url = "http://a?token={SECRET}"',
        f'token = "{SECRET}"',
        f'[sprites.acme]\ntoken = "{SECRET}',
    ],
)
def test_literal_secret_in_file_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    assert SECRET not in refusal(write(tmp_path / "given.toml", text))


@pytest.mark.parametrize(
    "variable", ["OPS_MANAGER_SPRITES__ACME__TOKEN", "OPS_MANAGER_SPRITES", "OPS_MANAGER_SPRITES__ACME__SERVICE_URL"]
)
def test_literal_secret_in_environment_is_refused_and_not_shown(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, SECRET)
    message = refusal()
    assert SECRET not in message
    assert "SPRITES" in message.upper()


@pytest.mark.parametrize("variable", ["OPS_MANAGER_SUPERVISION", "OPS_MANAGER_SPRITES", "ops_manager_supervision"])
def test_variable_that_is_no_json_is_the_one_that_is_blamed(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "abc")
    assert refusal().startswith(f"{variable.upper()} must be a JSON object such as {{")


def test_table_in_one_variable_is_read_as_the_message_about_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_MANAGER_SUPERVISION", '{"idle_poll_interval": "2m"}')
    assert load_settings().supervision.options().idle_poll_interval_s == 120.0


def test_misspelt_variable_is_refused_with_the_right_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_MANAGER_TASK_QUEU", "x")
    assert "did you mean OPS_MANAGER_TASK_QUEUE?" in refusal()


def test_variable_that_only_shares_the_prefix_is_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_MANAGER_TOKEN", SECRET)  # what a token reference env:OPS_MANAGER_TOKEN names
    monkeypatch.setenv("OPS_MANAGER_TEMPORAL_BIN", "/usr/bin/temporal")
    assert load_settings().max_loops == 2_000


def test_unknown_flag_is_refused_with_a_suggestion() -> None:
    message = refusal(max_lops=3)
    assert "given as a flag" in message
    assert "did you mean max_loops?" in message
