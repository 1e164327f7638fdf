/** Compare Before and After: two pictures under one slider, in both renderings of the editor. */
import { app } from "../../scripts/app.js";
import { addStyle, create, enlarge, keepShown } from "./sheet.js";
import { t } from "./words.js";

addStyle(`
.bfr-compare { display: flex; flex-direction: column; gap: 4px; height: 100%; min-height: 40px;
  overflow: hidden; color: var(--input-text, #ddd); font: 12px/1.3 sans-serif; }
.bfr-compare.full { min-height: 240px; }
.bfr-pictures { position: relative; flex: 1 1 0; min-height: 0; border-radius: 4px;
  overflow: hidden; background: var(--comfy-input-bg, #222); }
.bfr-pictures img { position: absolute; inset: 0; width: 100%; height: 100%;
  object-fit: contain; user-select: none; }
.bfr-pictures .bfr-before { clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.bfr-pictures .bfr-line { position: absolute; inset: 0 auto 0 var(--at); width: 2px;
  margin-left: -1px; background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
.bfr-pictures input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0;
  opacity: 0; cursor: ew-resize; }
.bfr-pictures:focus-within .bfr-line { width: 4px; }
.bfr-pictures .bfr-name { position: absolute; top: 6px; padding: 1px 6px; border-radius: 3px;
  background: #000a; color: #fff; pointer-events: none; }
.bfr-leaf { display: flex; justify-content: space-between; flex: none; }
.bfr-leaf button { padding: 0 10px; color: inherit; background: var(--comfy-input-bg, #222);
  border: 0; border-radius: 3px; cursor: pointer; }
`);

app.registerExtension({
  name: "face-restoration-tuner.compare",
  nodeCreated(node) {
    if (node.comfyClass === "BFR_CompareImages") addSlider(node);
  },
});

function addSlider(node) {
  const root = create("div", "bfr-compare");
  const empty = create("div");
  empty.textContent = t("Run to see both under one slider here.");
  let shown = null;
  let index = 0;

  const widget = node.addDOMWidget("compare", "bfr_compare", root, {
    serialize: false,
    hideOnZoom: false,
    selectOn: [],
    getMinHeight: () => (shown ? 260 : 60),
  });
  widget.serialize = false;
  enlarge(node, 340, 0);

  function show(next) {
    shown = next?.pairs.length ? next : null;
    index = 0;
    draw();
  }

  function draw() {
    root.classList.toggle("full", Boolean(shown));
    if (!shown) return root.replaceChildren(empty);
    const many = shown.pairs.length > 1 ? [leaf()] : [];
    root.replaceChildren(pictures(shown.pairs[index]), ...many);
    node.setDirtyCanvas?.(true, true);
  }

  function pictures(pair) {
    const stage = create("div", "bfr-pictures");
    const slider = create("input");
    Object.assign(slider, { type: "range", min: 0, max: 100, step: 0.5, value: 50 });
    slider.setAttribute("aria-label", t("Before and after"));
    slider.oninput = () => place(stage, slider.valueAsNumber);
    slider.onpointermove = (event) => {
      const { left, width } = stage.getBoundingClientRect();
      place(stage, (100 * (event.clientX - left)) / width);
    };
    slider.onkeydown = (event) => event.stopPropagation(); // else the editor takes the arrows
    const line = create("div", "bfr-line");
    stage.append(
      picture(pair.after),
      picture(pair.before, "bfr-before"),
      line,
      name(t("before"), "left"),
      name(t("after"), "right"),
      slider,
    );
    place(stage, 50);
    return stage;
  }

  function picture(file, className = "") {
    const image = create("img", className);
    image.alt = "";
    image.draggable = false;
    image.onerror = () => {
      empty.textContent = t("The picture of the last run is gone. Run again to see it.");
      show(null);
    };
    image.src = app.api.apiURL(`/view?${new URLSearchParams(file)}`);
    return image;
  }

  function leaf() {
    const row = create("div", "bfr-leaf");
    const count = create("span");
    count.textContent = `${index + 1} / ${shown.pairs.length}`;
    row.append(turn("\u2039", -1), count, turn("\u203a", 1));
    return row;
  }

  function turn(text, step) {
    const button = create("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", t(step < 0 ? "Previous" : "Next"));
    button.onclick = () => {
      index = (index + step + shown.pairs.length) % shown.pairs.length;
      draw();
    };
    return button;
  }

  keepShown(node, root, "bfr_compare", show);
  show(null);
}

function name(text, side) {
  const label = create("span", "bfr-name");
  label.textContent = text;
  label.style[side] = "6px";
  return label;
}

function place(stage, percent) {
  stage.style.setProperty("--at", `${Math.min(100, Math.max(0, percent))}%`);
}
