/** Loaders: published files that are not on this machine are marked, and offered for download. */
import { app } from "../../scripts/app.js";
import { setWidgets } from "./sheet.js";
import { choice, t } from "./words.js";

// The widget with the file's name, of each node that loads one.
const WIDGETS = {
  BFR_LoadFaceDetector: "detector_name",
  BFR_LoadRestorer: "restorer_name",
  BFR_LoadFaceParser: "parser_name",
  BFR_LoadFaceRecognizer: "recognizer_name",
  BFR_LoadPrior: "prior_name",
  BFR_RestorePhotoWith: "restorer_name",
};
let missing = {}; // what is known of each file that is not here, by its name

async function look() {
  const reply = await app.api.fetchApi("/face_restoration/missing");
  if (reply.ok) missing = await reply.json();
}

app.registerExtension({
  name: "face-restoration-tuner.loaders",
  setup: look,
  async refreshComboInNodes() {
    await look();
  },
  nodeCreated(node) {
    const widget = node.widgets?.find(({ name }) => name === WIDGETS[node.comfyClass]);
    if (!widget) return;
    widget.options.getOptionLabel = (name) =>
      name in missing ? `${name}  ⤓ ${t("not here")}, ${size(missing[name])}` : choice(name);
    const before = widget.callback;
    widget.callback = function (name, ...given) {
      const result = before?.call(this, name, ...given);
      if (name in missing) offer(node, name);
      return result;
    };
  },
});

/** Asks whether the next run may fetch the chosen file. */
async function offer(node, name) {
  const download = node.widgets.find((widget) => widget.name === "download");
  if (!download || download.value || app.configuringGraph) return;
  const { licence } = missing[name];
  const values = { name, size: size(missing[name]), licence };
  const agreed = await app.extensionManager.dialog.confirm({
    title: t("Download {name}?", values),
    message: t("It is not on this machine. The next run would fetch {size}. Its licence: {licence}", values),
  });
  if (agreed) setWidgets(node, { download: true });
}

function size({ size: bytes }) {
  return bytes ? `${Math.round(bytes / 1e6)} MB` : t("size unknown");
}
