/**
 * Input sockets and choices in the editor's language.
 *
 * A locale's file has no place for choices, and those of the core's own nodes stay English; so
 * they are only labelled here, and keep their names in workflows.
 *
 * The editor translates a socket's name, but then shows the display name of the schema in its
 * place; and a saved workflow keeps the names of the language that it was saved in.
 */
import { app } from "../../scripts/app.js";
import { choice, language } from "./words.js";

const translated = new Map(); // the sockets' names by node type and id, as of a new node

app.registerExtension({
  name: "face-restoration-tuner.translate",
  nodeCreated(node) {
    if (!isOurs(node)) return;
    for (const slot of sockets(node)) {
      const name = slot.localized_name;
      if (name && name !== slot.name) translated.set(`${node.comfyClass} ${slot.name}`, name);
    }
    show(node);
    if (language().startsWith("zh")) label(node);
  },
  loadedGraphNode: show,
});

function isOurs(node) {
  return node.comfyClass?.startsWith("BFR_");
}

function sockets(node) {
  return (node.inputs ?? []).filter((slot) => !slot.widget);
}

/** Takes the schema's own names off the sockets that have one in this language. */
function show(node) {
  if (!isOurs(node)) return;
  const { required, optional } = node.constructor.nodeData?.input ?? {};
  for (const slot of sockets(node)) {
    const name = translated.get(`${node.comfyClass} ${slot.name}`);
    const [, about] = required?.[slot.name] ?? optional?.[slot.name] ?? [];
    if (!name || (slot.label && slot.label !== about?.display_name)) continue;
    slot.label = undefined;
    slot.localized_name = name;
  }
}

/** Labels the choices of a node; a loader's are labelled in loaders.js. */
function label(node) {
  for (const widget of node.widgets ?? []) {
    if (widget.type === "combo" && !widget.options.getOptionLabel) {
      widget.options.getOptionLabel = choice;
    }
  }
}
