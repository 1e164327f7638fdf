/**
 * Our workflows as they are opened: their example pictures are put into ComfyUI's input folder,
 * and the graph fills the window, for text to be readable.
 */
import { app } from "../../scripts/app.js";
import { language } from "./words.js";

const EXAMPLE = /^face_example_/;
// What covers the canvas at its left, top, right and bottom: side bar, menu, and some air.
const COVERED = [84, 84, 24, 40];
let opened = false;

app.registerExtension({
  name: "face-restoration-tuner.templates",
  async beforeConfigureGraph(workflow) {
    const ours = Boolean(workflow?.extra?.bfr_template);
    opened = ours && !workflow.extra.ds;
    const values = (workflow?.nodes ?? []).flatMap((node) => Object.values(node.widgets_values ?? []));
    if (values.some((value) => EXAMPLE.test(value))) await putExamples();
  },
  afterConfigureGraph() {
    if (opened) {
      if (language().startsWith("zh")) turnNote();
      fill();
    }
    opened = false;
  },
});

/** Puts our examples into the input folder; lists of files are read again if they were not there. */
async function putExamples() {
  const reply = await app.api.fetchApi("/face_restoration/examples", { method: "POST" });
  const { written, error } = await reply.json();
  if (error) console.warn("[face-restoration-tuner]", error);
  else if (written) await app.refreshComboInNodes();
}

/** Unfolds the Chinese note in the place of the English one. */
function turnNote() {
  const [english, chinese] = app.graph.nodes.filter((node) => node.type === "MarkdownNote");
  if (!chinese?.flags.collapsed) return;
  [english.pos, chinese.pos] = [[...chinese.pos], [...english.pos]];
  for (const note of [english, chinese]) note.collapse(true);
}

/** Lets the graph fill the part of the window that no bar covers; at its own size if it fits. */
function fill() {
  const shown = app.graph.nodes.filter((node) => !node.flags.collapsed);
  const boxes = [...app.graph.groups, ...shown].map((item) => item.boundingRect);
  const low = [0, 1].map((axis) => Math.min(...boxes.map((box) => box[axis])));
  const size = [0, 1].map(
    (axis) => Math.max(...boxes.map((box) => box[axis] + box[axis + 2])) - low[axis],
  );
  const { width, height } = app.canvas.canvas.getBoundingClientRect();
  const [left, top, right, bottom] = COVERED;
  const room = [width - left - right, height - top - bottom];
  const view = app.canvas.ds;
  view.scale = Math.min(1, ...room.map((length, axis) => length / size[axis]));
  const spare = room.map((length, axis) => (length - size[axis] * view.scale) / 2);
  view.offset[0] = (left + spare[0]) / view.scale - low[0];
  view.offset[1] = (top + spare[1]) / view.scale - low[1];
  app.canvas.setDirty(true, true);
}
