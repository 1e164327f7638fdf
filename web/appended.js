/**
 * A workflow that was saved before an input existed goes on doing what it did.
 *
 * The editor keeps a node's values in their order, without names, and gives an input that was
 * appended later its default. Here it gets what the node did without it.
 */
import { app } from "../../scripts/app.js";

const BEFORE = {
  BFR_DetectFaces: { numbering: "size" },
  BFR_RestoreFaces: { keep_person: 0 },
  BFR_RestorePhoto: { enlarge: "1", grain: 0, doubtful: true, keep_person: 0, numbering: "size" },
  BFR_RestoreVideo: { grain: 0, keep_person: 0 },
};

app.registerExtension({
  name: "face-restoration-tuner.appended",
  beforeRegisterNodeDef(nodeType, nodeData) {
    const before = BEFORE[nodeData.name];
    if (!before) return;
    const configured = nodeType.prototype.onConfigure;
    nodeType.prototype.onConfigure = function (saved, ...rest) {
      configured?.call(this, saved, ...rest);
      const count = saved.widgets_values?.length ?? Infinity;
      for (const widget of this.widgets?.slice(count) ?? []) {
        if (widget.name in before) widget.value = before[widget.name];
      }
    };
  },
});
