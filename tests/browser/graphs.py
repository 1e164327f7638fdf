"""Graphs made in the editor, run and looked at, for the tests of what web/ adds to nodes."""

from __future__ import annotations

from typing import Any

# Nodes are [type, x, y, {widget: value}]; links are [from, slot, to, input].
_MAKE = """([nodes, links]) => {
    const made = nodes.map(([type, x, y, values]) => {
        const node = LiteGraph.createNode(type);
        node.pos = [x, y];
        app.graph.add(node);
        for (const widget of node.widgets ?? []) {
            if (widget.name in values) widget.value = values[widget.name];
        }
        return node;
    });
    for (const [from, slot, to, input] of links) {
        made[from].connect(slot, made[to], made[to].findInputSlot(input));
    }
    return made.map((node) => node.id);
}"""
_RUN = """() => new Promise((resolve) => {
    app.api.addEventListener("execution_success", () => resolve(null), {once: true});
    app.api.addEventListener("execution_error", ({detail}) => resolve(detail), {once: true});
    app.queuePrompt(0, 1);
})"""
_VALUES = """(id) => Object.fromEntries(
    app.graph.getNodeById(id).widgets.map((widget) => [widget.name, widget.value]))"""

_SETTLED = """([id, wanted]) => app.graph.getNodeById(id).widgets.every(
    (widget) => !(widget.name in wanted) || widget.value === wanted[widget.name])"""

CELLS = ".bfr-cells button"
STATUS = ".bfr-sheet [role=status]"


def make(editor: Any, nodes: list[list[Any]], links: list[list[Any]]) -> list[Any]:
    """Puts nodes into the graph and returns their ids."""
    return editor.evaluate(_MAKE, [nodes, links])


def run(editor: Any) -> None:
    error = editor.evaluate(_RUN)
    assert error is None, error
    editor.wait_for_timeout(500)


def settle(editor: Any, node: Any, wanted: dict[str, Any]) -> None:
    """Waits until a node's widgets have these values; an undo takes as long as the machine does."""
    editor.wait_for_function(_SETTLED, arg=[node, wanted])


def values(editor: Any, node: Any, *names: str) -> list[Any]:
    """The values of a node's widgets by their names."""
    known = editor.evaluate(_VALUES, node)
    return [known[name] for name in names]
