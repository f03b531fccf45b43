"""Dataclasses of options in the signature of a command."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from cli.command_group import CommandGroup


@dataclass(frozen=True, kw_only=True)
class Place:
    street: Annotated[str, typer.Option("--street")] = "none"
    number: Annotated[int, typer.Option("--number")] = 0


@pytest.fixture
def visited() -> list[tuple[str, Place]]:
    return []


@pytest.fixture
def app(visited: list[tuple[str, Place]]) -> CommandGroup:
    group = CommandGroup()

    @group.command("visit")
    def visit(place: Place, *, who: str) -> None:
        visited.append((who, place))

    return group


def test_each_field_is_an_option_and_the_command_gets_the_object(
    app: CommandGroup, visited: list[tuple[str, Place]]
) -> None:
    typer.main.get_command(app).main(["Ann", "--number", "7"], standalone_mode=False)

    assert visited == [("Ann", Place(number=7))]


def test_options_of_the_command_come_before_shared_ones(app: CommandGroup) -> None:
    parameters = typer.main.get_command(app).params

    assert [parameter.name for parameter in parameters[:3]] == ["who", "street", "number"]
