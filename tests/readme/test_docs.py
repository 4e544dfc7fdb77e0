"""docs/cli.md against what it describes: every command, option, code, setting and request, and no other."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from starlette.routing import Route

from cli.exit_codes import ExitCode
from cli.main import cli
from cli.sprite_serve import DEFAULT_PORT
from contract.supervision import SupervisorOptions
from sprite.control import SpriteController
from sprite.http import create_app
from sprite.reader import SpriteReader
from sprite.standin import FAST_PACE_MS, install_runtime, prepare_repo
from sprite.standin.scenario import OUTCOMES, parse_scenario
from tests.ground.project import ROOT, project_files
from tests.readme.stranger import Network, Stranger, blocks
from worker.durations import parse_duration
from worker.settings import Settings, SpriteSettings, SupervisionSettings, WebhookSettings, load_settings

CLI = ROOT / "docs" / "cli.md"
TEXT = CLI.read_text(encoding="utf-8")


def commands(group: click.Command = cli, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that can be typed, as it is typed."""
    if not isinstance(group, click.Group):
        yield path, group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield from commands(command, f"{path} {name}".strip())


COMMANDS = dict(commands())


def options_of(command: click.Command) -> set[str]:
    """The options of a command as they are typed."""
    return {name for parameter in command.params for name in parameter.opts if name.startswith("-")}


def tables() -> dict[str, list[list[str]]]:
    """The rows of every table by its first heading; tables with the same first heading are put together."""
    found: dict[str, list[list[str]]] = {}
    for table in re.findall(r"(?:^\|.*\|$\n)+", TEXT, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines())
        found.setdefault(head[0], []).extend(rows)
    return found


TABLES = tables()


def code(cell: str) -> str:
    """What a cell holds between back quotes, first."""
    quoted = re.search(r"`([^`]+)`", cell)
    assert quoted, cell
    return quoted[1]


def documented_options(cell: str) -> set[str]:
    """The options that a cell names, with those of the groups that it names."""
    groups = re.findall(r"\*([a-z]+)\*", cell)
    return set(re.findall(r"`(--?[a-z-]+)", cell)) | {code(row[0]) for name in groups for row in TABLES[f"*{name}*"]}


def test_every_command_is_documented_and_no_other() -> None:
    documented = [re.sub(r" \[?(LOOP|ARCHIVE).*", "", code(row[0])) for row in TABLES["command"]]
    assert sorted(documented) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_options_of_a_command_are_documented_and_no_others(name: str) -> None:
    row = next(row for row in TABLES["command"] if re.fullmatch(rf"`{name}( \[?(LOOP|ARCHIVE).*)?`", row[0]))
    assert documented_options(row[2]) == options_of(COMMANDS[name])
    takes_argument = any(isinstance(parameter, click.Argument) for parameter in COMMANDS[name].params)
    assert ("LOOP" in row[0] or "ARCHIVE" in row[0]) == takes_argument


def mentions() -> list[tuple[Path, str]]:
    """Every command of ours that a document names in code."""
    documents = [path for path in project_files() if path.suffix == ".md" and path.is_relative_to(ROOT / "docs")]
    found: list[tuple[Path, tuple[str, str]]] = []
    for path in [ROOT / "README.md", *documents]:
        text = path.read_text(encoding="utf-8")
        spans = re.findall(r"`([^`\n]+)`", text) + [line for block in blocks(path) for line in block.splitlines()]
        ours = "|".join(COMMANDS)
        found += [
            (path, match)
            for span in spans
            for match in re.findall(rf"(?:^|[ /])ops-manager ([a-z].*)|^((?:{ours}) --.*)", span)
        ]
    return [(path, one or other) for path, (one, other) in found]


def test_commands_named_in_the_documents_can_be_typed() -> None:
    named = mentions()
    assert len(named) > 20
    for path, typed in named:
        name = max((known for known in COMMANDS if f"{typed} ".startswith(f"{known} ")), key=len, default=None)
        assert name, f"{path.name}: ops-manager {typed}"
        options = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", typed)) - {"--help"}
        assert options <= options_of(COMMANDS[name]), f"{path.name}: ops-manager {typed}"


def test_options_named_in_running_text_exist() -> None:
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert named <= {option for command in COMMANDS.values() for option in options_of(command)}


def test_exit_codes_are_documented_and_no_others() -> None:
    assert [int(row[0]) for row in TABLES["code"]] == [code.value for code in ExitCode]


def test_settings_are_documented_and_no_others() -> None:
    documented = {code(row[0]) for row in TABLES["setting"]}
    tables_of_settings = {"sprites", "supervision", "webhook"}
    in_tables = {f"sprites.NAME.{name}" for name in SpriteSettings.model_fields}
    in_tables |= {f"webhook.{name}" for name in WebhookSettings.model_fields}
    assert documented == (Settings.model_fields.keys() - tables_of_settings) | in_tables
    assert {code(row[0]) for row in TABLES["`supervision.`"]} == SupervisionSettings.model_fields.keys()


def test_defaults_of_settings_are_those_documented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME")
    settings = load_settings()
    shown = {code(row[0]): row[1].strip("`") for row in TABLES["setting"] if row[1]}
    assert shown == {
        "task_queue": settings.task_queue,
        "data_folder": "~/" + str(settings.data_folder.relative_to(tmp_path)),
        "max_loops": str(settings.max_loops),
        "graceful_shutdown": f"{settings.graceful_shutdown.seconds}s",
    }


@pytest.mark.parametrize("row", TABLES["`supervision.`"], ids=lambda row: code(row[0]))
def test_default_of_a_supervision_setting_is_that_documented(row: list[str]) -> None:
    options, name, shown = SupervisorOptions(), code(row[0]), row[1].strip("`")
    if shown.isdigit():
        assert getattr(options, name) == int(shown)
    else:
        assert timedelta(seconds=getattr(options, f"{name}_s")) == parse_duration(shown)


def test_settings_example_is_accepted(tmp_path: Path) -> None:
    example = re.search(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert example
    file = tmp_path / "ops-manager.toml"
    file.write_text(example[1])
    settings = load_settings(file)
    assert settings.supervision.idle_poll_interval == timedelta(minutes=2)
    assert settings.sprites["acme"].token == "env:ACME_OPS_TOKEN"


def test_requests_of_the_service_are_documented_and_no_others(tmp_path: Path) -> None:
    reader = SpriteReader(prepare_repo(tmp_path / "repo"), state_dir=tmp_path / "state")
    controller = SpriteController(reader, install_runtime(tmp_path / "bin"), state_dir=tmp_path / "state")
    routes = [route for route in create_app(reader, controller, "a-token").routes if isinstance(route, Route)]
    controller.close()
    documented = {re.sub(r"\?.*", "", code(row[0])) for row in TABLES["request"]}
    served = {
        f"{method} {route.path.replace(':path', '')}"
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert documented == served


def test_default_port_is_that_of_the_documents() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"`--port` is {DEFAULT_PORT} unless given" in TEXT
    assert f"127.0.0.1:{DEFAULT_PORT}" in readme


def test_picture_needs_nothing_from_elsewhere_and_shows_a_loop_that_waits() -> None:
    picture = (ROOT / "docs" / "pictures" / "status.svg").read_text(encoding="utf-8")
    shown = "\n".join(ElementTree.fromstring(picture).itertext()).replace("\xa0", " ")  # noqa: S314 - our own file
    assert ".venv/bin/ops-manager status acme/demo" in shown
    assert "awaiting approval" in shown
    # The namespace of SVG is a name; nothing is fetched from there.
    assert "://" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_outcomes_of_the_stand_in_are_documented_and_no_others() -> None:
    sentence = re.search(r"An `outcome` is (.*?)\.", TEXT, re.DOTALL)
    assert sentence
    assert set(re.findall(r"`([a-z_]+)`", sentence[1])) == set(OUTCOMES)


def test_scenario_example_is_accepted() -> None:
    example = re.search(r"^```json\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert example
    assert len(parse_scenario(json.loads(example[1])).loop("demo").runs) == 2


def test_stand_in_of_the_documents_runs_a_loop(tmp_path: Path) -> None:
    (block,) = blocks(CLI)
    play, scenario = tmp_path / "play", tmp_path / "scenario.json"
    scenario.write_text(json.dumps({"pace_ms": FAST_PACE_MS}))
    variables = {"PLAY": str(play), "SUPERLOOP_STANDIN_SCENARIO": str(scenario)}
    with Stranger(tmp_path / "stranger", Network(), **variables) as stranger:
        done = stranger.run(block)
    assert done.returncode == 0, done.stderr
    events = (play / "repo" / ".superloop" / "loops" / "demo" / "events.jsonl").read_text().splitlines()
    assert json.loads(events[-1])["event"] == "loop_complete"
