/** Show Report: Markdown as the editor's own notes draw it, in both renderings. */
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";
import { enlarge, keepShown } from "./sheet.js";
import { t } from "./words.js";

app.registerExtension({
  name: "face-restoration-tuner.report",
  nodeCreated(node) {
    if (node.comfyClass !== "BFR_ShowReport") return;
    const empty = `*${t("Run to see the report here.")}*`;
    const { widget } = ComfyWidgets.MARKDOWN(node, "shown", ["STRING", { default: empty }], app);
    widget.serialize = false;
    widget.options.serialize = false;
    const root = widget.element ?? {};
    root.dataset ??= {};
    enlarge(node, 340, 180);
    keepShown(node, root, "bfr_report", (text) => (widget.value = text ? lines(text) : empty));
  },
});

/** Keeps line breaks, which Markdown takes for spaces outside of tables and paragraphs. */
function lines(text) {
  return text.replace(/^(?!\s*\||\s*[-*] )(.*\S)\n(?=\S)/gm, "$1  \n");
}
