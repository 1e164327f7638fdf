/** Sweep Guidance: a click on a cell copies its settings into the node that samples. */
import { app } from "../../scripts/app.js";
import { addSheet, isLinked, setWidgets, toast } from "./sheet.js";
import { t } from "./words.js";

const SAMPLERS = ["BFR_SamplePseudoTargets", "BFR_BuildTrainingPairs"];

app.registerExtension({
  name: "face-restoration-tuner.sweep",
  nodeCreated(node) {
    if (node.comfyClass !== "BFR_SweepGuidance") return;
    addSheet(node, {
      empty: t("Run to see the grid here, and click a cell to sample with its settings."),
      label: t("Combinations of settings"),
      describe: (cell) => `${cell.name}\n${cell.hint}`,
      summary: () => t("Click a cell to copy its settings into Sample Pseudo Targets."),
      press: (cell) => (cell.settings ? copy(node, cell) : toast("warn", cell.name, cell.hint)),
      mark: (cell, button) => button.setAttribute("aria-disabled", !cell.settings),
    });
  },
});

function copy(sweep, cell) {
  const found = findSamplers(sweep);
  if (found.length !== 1) {
    const add = t("Add a Sample Pseudo Targets node to the workflow: double-click the canvas.");
    const choose = t("Several nodes could take them. Select one and click again.");
    toast("warn", t("Not copied"), found.length ? choose : add);
    return;
  }
  const [sampler] = found;
  const linked = Object.keys(cell.settings).filter((name) => isLinked(sampler, name));
  const values = Object.entries(cell.settings).filter(([name]) => !linked.includes(name));
  setWidgets(sampler, Object.fromEntries(values));
  const names = linked.join(", ");
  const kept = names && ` ${t("Left alone, since they are connected: {names}.", { names })}`;
  const title = `${t("Copied to")} ${sampler.title} (${sampler.id})`;
  toast(linked.length ? "warn" : "success", title, `${cell.name}.${kept}`);
}

/** The nodes that the settings may be for: one, none, or several that are as likely. */
function findSamplers(sweep) {
  const source = (node, name) => {
    const link = node.getInputLink(node.findInputSlot(name));
    return link && `${link.origin_id} ${link.origin_slot}`;
  };
  const same = (name) => (node) => source(sweep, name) && source(node, name) === source(sweep, name);
  const likelier = [
    (node) => app.canvas.selectedItems.has(node),
    (node) => node.comfyClass === SAMPLERS[0],
    same("crops"),
    same("prior"),
  ];
  const all = sweep.graph.nodes.filter((node) => SAMPLERS.includes(node.comfyClass));
  return likelier.reduce((rest, test) => (rest.some(test) ? rest.filter(test) : rest), all);
}
