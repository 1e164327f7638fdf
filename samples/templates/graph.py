"""A workflow in a few lines: nodes in columns, and where their inputs come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

GAP = 24  # between nodes
COLUMN_GAP = 34


@dataclass(frozen=True, slots=True)
class Output:
    """An output of a node, for another node's input."""

    node: str
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a workflow.

    Attributes:
        type: its class.
        height: of its body, in the editor's pixels; 0 for a node that is folded to its title.
        inputs: `Output` for sockets, values for widgets, by the ids of the inputs.
        title: in the place of the class's own.
    """

    type: str
    height: int
    inputs: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """Nodes below one another.

    Attributes:
        width: of all of them.
        nodes: from top to bottom, by names that `Output` uses.
        group: a title over this column and those after it without one; "" for none.
        muted: its nodes do not run until the user unmutes them.
    """

    width: int
    nodes: Mapping[str, Node]
    group: str = ""
    muted: bool = False


@dataclass(frozen=True, slots=True)
class Template:
    """A workflow of the gallery.

    Attributes:
        note_width: of the notes, which are the first column.
        note_height: of the English note.
        columns: from left to right.
        app_inputs: the widgets that App Mode shows, by node and input id.
        app_outputs: the nodes whose results it shows.
    """

    note_width: int
    note_height: int
    columns: Sequence[Column]
    app_inputs: Sequence[tuple[str, str]] = ()
    app_outputs: Sequence[str] = ()
