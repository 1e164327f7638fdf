/** The words of our widgets in the editor's language. */
import { app } from "../../scripts/app.js";

const CHINESE = {
  "Run to see both under one slider here.": "运行后在此用滑块对比两张图。",
  "Run to see the report here.": "运行后在此显示报告。",
  "Before and after": "修复前后",
  before: "修复前",
  after: "修复后",
  Previous: "上一张",
  Next: "下一张",
  "The picture of the last run is gone. Run again to see it.": "上次运行的图片已不存在，请重新运行。",
};

/** A text of ours as the editor's language has it; English where there is none. */
export function t(text, values = {}) {
  const language = app.extensionManager?.setting?.get?.("Comfy.Locale") ?? "en";
  const found = (language.startsWith("zh") && CHINESE[text]) || text;
  return found.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}
