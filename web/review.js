/** Review Training Pairs: a click on a pair rejects it, or takes that back, in the text widgets. */
import { app } from "../../scripts/app.js";
import { addSheet, after, isLinked, setWidgets, toast } from "./sheet.js";
import { t } from "./words.js";

const FIGURES =
  "like: likeness to the guess in dB. moved: eyes, nose, mouth. sharp, grain. niqe: lower is more natural.";

app.registerExtension({
  name: "face-restoration-tuner.review",
  nodeCreated(node) {
    if (node.comfyClass !== "BFR_ReviewTrainingPairs") return;
    const lists = ["rejected", "kept"].map((name) => node.widgets.find((w) => w.name === name));
    const [rejected, kept] = lists;

    function isRejected(cell) {
      if (names(rejected.value, cell)) return true;
      return cell.rejected && !names(kept.value, cell);
    }

    function toggle(cell) {
      const linked = lists.find((list) => isLinked(node, list.name));
      if (linked) {
        const why = t("The input {name} is connected and decides by itself.", linked);
        toast("warn", t("Not marked"), why);
        return;
      }
      const reject = !isRejected(cell);
      const texts = lists.map((list) => without(list.value, cell));
      if (reject) texts[0].push(cell.name);
      else if (cell.rejected) texts[1].push(cell.name); // the set says so: take it back
      setWidgets(node, { rejected: texts[0].join(", "), kept: texts[1].join(", ") });
    }

    const refresh = addSheet(node, {
      empty: t("Run to see the contact sheet here, and click the pairs to leave out."),
      label: t("Training pairs"),
      keys: "rk",
      describe: (cell) =>
        `${cell.number}${isRejected(cell) ? t(" rejected") : ""}: ${cell.name}\n${cell.hint}`,
      summary(sheet) {
        const count = sheet.cells.filter(isRejected).length + sheet.rejected_elsewhere;
        const lines = [t("{count} of {all} rejected.", { count, all: sheet.count })];
        if (sheet.pages > 1) lines.push(t("Page {page} of {pages}.", sheet));
        const changed = sheet.cells.some((cell) => isRejected(cell) !== cell.rejected);
        if (changed) lines.push(t("The next run writes it down."));
        return `${lines.join(" ")}\n${t(FIGURES)}`;
      },
      press: toggle,
      mark: (cell, button) => button.setAttribute("aria-pressed", isRejected(cell)),
    });
    for (const list of lists) after(list, "callback", refresh); // typed by hand
  },
});

/** What is between the commas, spaces and line breaks of a text. */
function words(text) {
  return text.split(/[\s,]+/).filter(Boolean);
}

/** The numbers that a word stands for, as bfr/pairs/review.py reads it: [first, last], or null. */
function span(word) {
  const found = word.match(/^(\d+)(?:-(\d+))?$/);
  return found && [Number(found[1]), Number(found[2] ?? found[1])];
}

function isName(word, cell) {
  return word.replace(/\.png$/, "") === cell.name;
}

/** Whether a text names a pair, by name, number or range. */
function names(text, { name, number }) {
  return words(text).some((word) => {
    const [first, last] = span(word) ?? [1, 0];
    return isName(word, { name }) || (first <= number && number <= last);
  });
}

/** The words of a text without a pair; of a range, what is left of it. */
function without(text, cell) {
  return words(text).flatMap((word) => {
    if (isName(word, cell)) return [];
    const [first, last] = span(word) ?? [1, 0];
    if (cell.number < first || cell.number > last) return [word];
    const rest = [[first, cell.number - 1], [cell.number + 1, last]];
    return rest.filter(([a, b]) => a <= b).map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`));
  });
}
