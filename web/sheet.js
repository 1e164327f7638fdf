/** A sheet in a node, as nodes/sheet.py sends it: a picture with a button over each cell. */
import { app } from "../../scripts/app.js";
import { t } from "./words.js";

const STYLE = `
.bfr-sheet { display: flex; flex-direction: column; gap: 4px; height: 100%; min-height: 40px;
  overflow: hidden; color: var(--input-text, #ddd); font: 12px/1.3 sans-serif; }
.bfr-sheet[hidden] { display: none; }
.bfr-sheet.full { min-height: 340px; }
.bfr-sheet [role="status"] { flex: none; white-space: pre-line; }
.bfr-sheet.full [role="status"] { height: 3.9em; overflow: hidden; }
.bfr-scroll { flex: 1 1 0; min-height: 0; overflow: auto; border-radius: 4px;
  background: var(--comfy-input-bg, #222); }
.bfr-cells { position: relative; }
.bfr-cells img { display: block; width: 100%; height: 100%; }
.bfr-cells button { position: absolute; padding: 0; border: 0; border-radius: 3px;
  background: none; cursor: pointer; }
.bfr-cells button:hover { background: #fff2; }
.bfr-cells button:focus-visible { outline: 2px solid var(--input-text, #fff); outline-offset: 2px; }
.bfr-cells button[aria-disabled="true"] { cursor: not-allowed; }
.bfr-cells button[aria-pressed="true"] { box-shadow: 0 0 0 3px #e5484d; }
`;

/**
 * @param {object} node
 * @param {object} looks
 * @param {string} looks.empty What stands there before the first run; "" takes no room till then.
 * @param {string} looks.label What the cells are, for screen readers.
 * @param {(cell: object) => string} looks.describe A cell in words.
 * @param {(sheet: object) => string} looks.summary The whole sheet in words.
 * @param {(cell: object) => void} looks.press What a click does.
 * @param {(cell: object, button: HTMLElement) => void} looks.mark Sets a button's state.
 * @param {string} [looks.keys] Keys that press too, besides space and enter.
 * @returns {() => void} Draws the buttons' states anew.
 */
export function addSheet(node, { empty, label, describe, summary, press, mark, keys = "" }) {
  const root = create("div", "bfr-sheet");
  const scroll = create("div", "bfr-scroll");
  const stage = create("div", "bfr-cells");
  const status = create("div");
  stage.setAttribute("role", "group");
  stage.setAttribute("aria-label", label);
  scroll.dataset.captureWheel = "true";
  status.setAttribute("role", "status");
  scroll.append(stage);
  root.append(scroll, status);
  let sheet = null;
  let buttons = [];

  const widget = node.addDOMWidget("sheet", "bfr_sheet", root, {
    serialize: false,
    hideOnZoom: false,
    selectOn: [],
    getMinHeight: () => (sheet ? 360 : empty ? 60 : 0),
  });
  widget.serialize = false;

  function show(next) {
    const focused = buttons.indexOf(document.activeElement);
    sheet = next;
    buttons = sheet?.cells.map((cell, index) => makeButton(cell, index)) ?? [];
    stage.replaceChildren();
    root.classList.toggle("full", Boolean(sheet));
    scroll.hidden = !sheet;
    if (sheet) {
      const picture = create("img");
      picture.alt = "";
      picture.draggable = false;
      picture.onerror = () => {
        show(null);
        status.textContent = t("The picture of the last run is gone. Run again to see it.");
      };
      picture.src = app.api.apiURL(`/view?${new URLSearchParams(sheet.picture)}`);
      stage.style.aspectRatio = `${sheet.width} / ${sheet.height}`;
      stage.append(picture, ...buttons);
    }
    refresh();
    buttons[focused]?.focus({ preventScroll: true });
    node.setDirtyCanvas?.(true, true);
  }

  function makeButton(cell, index) {
    const button = create("button");
    const [left, top, right, bottom] = cell.box;
    button.type = "button";
    button.tabIndex = index ? -1 : 0;
    button.style.left = `${(100 * left) / sheet.width}%`;
    button.style.top = `${(100 * top) / sheet.height}%`;
    button.style.width = `${(100 * (right - left)) / sheet.width}%`;
    button.style.height = `${(100 * (bottom - top)) / sheet.height}%`;
    const tell = () => (status.textContent = describe(cell));
    button.onclick = () => {
      press(cell);
      refresh();
      tell();
    };
    button.onpointerenter = tell;
    button.onpointerleave = refresh;
    button.onfocus = () => {
      for (const other of buttons) other.tabIndex = other === button ? 0 : -1;
      tell();
    };
    button.onkeydown = (event) => handleKey(event, index);
    return button;
  }

  function handleKey(event, index) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = sheet.cells.filter((cell) => cell.box[1] === sheet.cells[0].box[1]).length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row };
    if (event.key in steps) {
      buttons[index + steps[event.key]]?.focus();
    } else if (keys.includes(event.key.toLowerCase())) {
      buttons[index].click();
    } else if (event.key !== " " && event.key !== "Enter") {
      return;
    }
    event.stopPropagation(); // else the editor takes it for a shortcut
    if (event.key !== " " && event.key !== "Enter") event.preventDefault();
  }

  function refresh() {
    status.textContent = sheet ? summary(sheet) : empty;
    root.hidden = !status.textContent;
    sheet?.cells.forEach((cell, index) => {
      mark?.(cell, buttons[index]);
      buttons[index].title = describe(cell);
      buttons[index].setAttribute("aria-label", describe(cell));
    });
  }

  keepShown(node, root, "bfr_sheet", show);
  show(null);
  return refresh;
}

/** Makes a new node at least so large; the classic rendering begins with too little. */
export function enlarge(node, width, height) {
  const [own, tall] = node.size;
  node.setSize([Math.max(own, width), Math.max(tall, height)]);
}

/**
 * Shows in a DOM widget what a node's last run sent, also after a reload or an undo.
 *
 * It lies in the tab's session storage, so the workflow does not grow.
 *
 * @param {object} node
 * @param {HTMLElement} root The widget's element.
 * @param {string} key What the node's ``ui`` calls it; a list of one.
 * @param {(shown: object | null) => void} show Draws it; null is nothing yet.
 */
export function keepShown(node, root, key, show) {
  const place = () => `${key}:${node.graph?.id}:${node.id}:${node.type}`;
  after(node, "onAdded", () => {
    root.dataset.place = place();
    // After an undo Nodes 2.0 keeps what the node of before had there.
    for (const other of document.querySelectorAll("[data-place]")) {
      if (other !== root && other.dataset.place === place()) other.replaceWith(root);
    }
  });
  after(node, "onConfigure", () => show(JSON.parse(sessionStorage.getItem(place()))));
  after(node, "onExecuted", (output) => {
    if (!output?.[key]) return;
    const [shown] = output[key];
    dropPreview(node);
    show(shown);
    try {
      sessionStorage.setItem(place(), JSON.stringify(shown));
    } catch {
      sessionStorage.removeItem(place()); // it is full: a reload begins with nothing
    }
  });
}

/** Takes the live preview of a run off a node, which would keep half of its room. */
function dropPreview(node) {
  const index = node.widgets.findIndex((widget) => widget.name === "$$canvas-image-preview");
  if (index >= 0) node.widgets.splice(index, 1)[0].onRemove?.();
  node.imgs = undefined;
  delete app.nodePreviewImages?.[node.id];
}

/** Sets widgets of a node by name, as one step that can be undone. */
export function setWidgets(node, values) {
  app.canvas.emitBeforeChange();
  for (const widget of node.widgets) {
    if (!(widget.name in values)) continue;
    widget.value = values[widget.name];
    widget.callback?.(widget.value, app.canvas, node);
  }
  app.canvas.emitAfterChange();
  node.setDirtyCanvas(true, true);
}

/** Whether a widget's value comes from another node. */
export function isLinked(node, name) {
  return node.inputs.some((input) => input.name === name && input.link != null);
}

export function toast(severity, summary, detail) {
  app.extensionManager.toast.add({ severity, summary, detail, life: 6000 });
}

/** Does something more after one of an object's methods. */
export function after(object, method, more) {
  const before = object[method];
  object[method] = function (...given) {
    const result = before?.apply(this, given);
    more(...given);
    return result;
  };
}

export function create(tag, className = "") {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}

export function addStyle(text) {
  const style = create("style");
  style.textContent = text;
  document.head.append(style);
}

addStyle(STYLE);
