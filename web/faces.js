/** Select Faces: a click on a face takes it out, or in again, in the numbers of those to keep. */
import { app } from "../../scripts/app.js";
import { addSheet, after, isLinked, setWidgets, toast } from "./sheet.js";
import { t } from "./words.js";

app.registerExtension({
  name: "face-restoration-tuner.faces",
  nodeCreated(node) {
    if (node.comfyClass !== "BFR_SelectFaces") return;
    const numbers = node.widgets.find((widget) => widget.name === "indices");
    let all = [];

    /** The numbers that are kept; an empty text keeps all. */
    function kept() {
      const words = numbers.value.split(/[\s,]+/).filter(Boolean);
      return words.length ? words.map(Number) : all;
    }

    function toggle({ number }) {
      if (isLinked(node, numbers.name)) {
        const why = t("The input {name} is connected and decides by itself.", numbers);
        toast("warn", t("Not marked"), why);
        return;
      }
      const before = kept();
      const next = before.includes(number)
        ? before.filter((other) => other !== number)
        : [...before, number].sort((a, b) => a - b);
      if (!next.length) {
        toast("warn", t("Not marked"), t("One face must stay."));
        return;
      }
      const everyone = all.every((other) => next.includes(other));
      setWidgets(node, { indices: everyone ? "" : next.join(", ") });
    }

    const isOut = ({ number }) => !kept().includes(number);
    const refresh = addSheet(node, {
      empty: "",
      label: t("Faces"),
      describe: (cell) => t("Face {number}", cell) + (isOut(cell) ? t(" left out") : ""),
      summary(sheet) {
        all = sheet.cells.map((cell) => cell.number);
        const count = sheet.cells.filter(isOut).length;
        return t("{count} of {all} left out.", { count, all: all.length });
      },
      press: toggle,
      mark(cell, button) {
        button.setAttribute("aria-pressed", isOut(cell));
      },
    });
    after(numbers, "callback", refresh); // typed by hand
  },
});
